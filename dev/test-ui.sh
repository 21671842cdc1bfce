#!/usr/bin/env bash
# Opens the gateway's pages in a headless browser and follows requests through their lives: on a temporary control
# plane, with a status that kubectl writes in the operator's place. Screenshots stay in VOLUBA_UI_PICTURES, if that
# names a folder. Closing line: "ui: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
if [ -z "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  exec "$ROOT/dev/with-control-plane.sh" "$0"
fi
BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$BROWSER" ]; then
  need_debian chromium
  BROWSER=chromium
fi
need_command curl curl
BIN=$("$ROOT/dev/build-kubernetes.sh")
VENV=$(need_python_venv ui "$ROOT/dev/ui-requirements.txt")
cargo build --quiet --locked -p operator -p fake-image-service --manifest-path "$ROOT/Cargo.toml"
PROGRAMS=${CARGO_TARGET_DIR:-$ROOT/target}/debug
export KUBECONFIG=$VOLUBA_TEST_KUBECONFIG
WORK=$(mktemp -d)
programs=()
trap 'kill "${programs[@]}" 2>/dev/null || true; rm -rf "$WORK"' EXIT

IMAGES=$(free_port)
"$BIN/kubectl" apply --server-side -f "$ROOT/crds/" >/dev/null
"$PROGRAMS/fake-image-service" "127.0.0.1:$IMAGES" images "$ROOT/examples/data/patch_image.nii.gz" \
  "labels=$ROOT/examples/data/patch_segmentation.nii.gz" > "$WORK/images" &
programs+=($!)
gateway() { # port, options...
  local port=$1 admin
  shift
  admin=$(free_port)
  RUST_LOG=info "$PROGRAMS/operator" gateway --namespace default --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin" \
    --allow-private-origin "http://127.0.0.1:$IMAGES" "$@" 2>> "$WORK/log" &
  programs+=($!)
  curl --silent --fail --noproxy '*' --retry 100 --retry-delay 1 --retry-connrefused --retry-all-errors \
    "http://127.0.0.1:$admin/readyz" >/dev/null || die "the gateway did not start: $(cat "$WORK/log")"
}
# One that knows its callers, one behind a proxy that knows nobody, and one with a provider that is yet to come.
PORT=$(free_port)
gateway "$PORT" --token-review-audience voluba
PLAIN=$(free_port)
gateway "$PLAIN" --trust-proxy
SIGNED=$(free_port)
PROVIDER=$(free_port)
gateway "$SIGNED" --oidc-issuer "http://127.0.0.1:$PROVIDER/realms/x" --oidc-audience voluba-align --oidc-client-id voluba-page
for account in scientist colleague; do
  "$BIN/kubectl" --namespace default create serviceaccount "$account" >/dev/null
  "$BIN/kubectl" --namespace default create token "$account" --audience voluba > "$WORK/$account"
done
PICTURES=${VOLUBA_UI_PICTURES:-$WORK/pictures}
mkdir -p "$PICTURES"
PYTHONPATH="$ROOT/dev/ui" "$VENV/bin/python" "$ROOT/dev/test-ui.py" --browser "$BROWSER" --kubectl "$BIN/kubectl" \
  --gateway "http://127.0.0.1:$PORT" --plain "http://127.0.0.1:$PLAIN" --signed "http://127.0.0.1:$SIGNED" --provider "$PROVIDER" --images "http://127.0.0.1:$IMAGES/chumni/v1" \
  --work "$WORK" --pictures "$PICTURES"
