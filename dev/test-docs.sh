#!/usr/bin/env bash
# Checks the documentation: links, YAML, commands that need no pods, and that the site can be built. Commands with
# kubectl and helm speak to a temporary control plane. Closing line: "docs: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
if [ -z "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  exec "$ROOT/dev/with-control-plane.sh" "$0"
fi
need_command jq jq
VENV=$(need_python_venv docs "$ROOT/dev/docs-requirements.txt")
PROGRAMS=${VOLUBA_PROGRAMS:-}
if [ -z "$PROGRAMS" ]; then
  cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
  PROGRAMS=${CARGO_TARGET_DIR:-$ROOT/target}/release
fi
SITE=$(mktemp -d)
trap 'rm -rf "$SITE"' EXIT
"$ROOT/dev/build-docs.sh" "$SITE"
# As a release of the chart has left it: the chart's own takes it over.
kubectl create -f "$ROOT/crds/" >/dev/null
CRDS=(crd/alignmentrequests.voluba.ebrains.eu crd/depthmaprequests.voluba.ebrains.eu)
kubectl label "${CRDS[@]}" app.kubernetes.io/managed-by=Helm >/dev/null
kubectl annotate "${CRDS[@]}" \
  meta.helm.sh/release-name=voluba-align meta.helm.sh/release-namespace=voluba >/dev/null
established "${CRDS[@]}"
"$VENV/bin/python" "$ROOT/dev/test-docs.py" "$PROGRAMS"
