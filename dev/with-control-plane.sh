#!/usr/bin/env bash
# Runs a command against its own temporary Kubernetes control plane (no node, no privilege):
#   dev/with-control-plane.sh cargo test -p operator
# The command sees KUBECONFIG and VOLUBA_TEST_KUBECONFIG, and kubectl and helm on its PATH. Several
# may run at once. The control plane goes when the command ends, however it ends.
# An existing cluster is used instead if VOLUBA_TEST_KUBECONFIG names its kubeconfig: the tests make
# namespaces, the custom resource definition and roles there.
. "$(dirname "$0")/lib/common.sh"
[ $# -gt 0 ] || die "usage: with-control-plane.sh COMMAND [ARGUMENT...]"

if [ -n "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  [ -r "$VOLUBA_TEST_KUBECONFIG" ] || die "VOLUBA_TEST_KUBECONFIG: cannot read $VOLUBA_TEST_KUBECONFIG"
  export KUBECONFIG=$VOLUBA_TEST_KUBECONFIG
  if ! command -v kubectl >/dev/null || ! command -v helm >/dev/null; then
    BIN=$("$ROOT/dev/build-kubernetes.sh")
    export PATH=$BIN:$PATH
  fi
  say "using the cluster of $KUBECONFIG instead of a temporary control plane"
  exec "$@"
fi

port_base_free() {
  local port
  for port in $(seq "$1" $(($1 + 4))); do
    ! (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 1
  done
}
# Runs at the same time have different process numbers, hence different ports.
base=$((20000 + $$ % 1500 * 8))
until port_base_free "$base"; do
  base=$((base + 8))
  [ "$base" -lt 32000 ] || base=20000
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/voluba-align.XXXXXX")
VOLUBA_CLUSTER_DIR=$folder
VOLUBA_CLUSTER_PORT_BASE=$base
. "$ROOT/dev/lib/cluster.sh"
. "$ROOT/dev/lib/certificates.sh"
. "$ROOT/dev/lib/control-plane.sh"

# shellcheck disable=SC2317  # called by the trap
finish() {
  [ -z "${command_pid:-}" ] || kill "$command_pid" 2>/dev/null || true
  control_plane_down
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

need_command openssl openssl
need_command curl curl
need_command etcd etcd-server
BIN=$("$ROOT/dev/build-kubernetes.sh")
EPHEMERAL=1
mkdir -p "$RUN" "$LOGS"
set_mode control-plane
STEP_START=$(microseconds)
make_certificates
control_plane_up
export KUBECONFIG=$PKI/admin.kubeconfig VOLUBA_TEST_KUBECONFIG=$PKI/admin.kubeconfig PATH=$BIN:$PATH
unset VOLUBA_CLUSTER_DIR VOLUBA_CLUSTER_PORT_BASE
# In the background, so that a signal to this script is handled at once.
"$@" <&0 &
command_pid=$!
status=0
wait "$command_pid" || status=$?
command_pid=
[ "$status" = 0 ] || say "the command ended with status $status"
exit "$status"
