#!/usr/bin/env bash
# Prints the shell variables with which kubectl and helm reach the test cluster:
#   eval "$(dev/cluster-env.sh)"
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/cluster.sh"

[ -f "$CLUSTER/mode" ] || die "no cluster in $CLUSTER: run dev/cluster-up.sh"
set_mode "$(cat "$CLUSTER/mode")"
BIN=$("$ROOT/dev/build-kubernetes.sh")
# shellcheck disable=SC2016  # PATH is expanded by the shell that evaluates this
printf 'export KUBECONFIG=%q\nexport PATH=%q:$PATH\nexport NO_PROXY=%q no_proxy=%q\n' \
  "$PKI/admin.kubeconfig" "$BIN" "$NO_PROXY" "$NO_PROXY"
