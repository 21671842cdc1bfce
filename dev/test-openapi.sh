#!/usr/bin/env bash
# Has schemathesis make calls out of the gateway's own descriptions of its interfaces: none may end in an error of the
# server, and every answer must be one that the description names. On a temporary control plane, with an image
# service beside it. Closing line: "openapi: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
if [ -z "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  exec "$ROOT/dev/with-control-plane.sh" "$0"
fi
. "$(dirname "$0")/lib/check.sh"
need_command curl curl
BIN=$("$ROOT/dev/build-kubernetes.sh")
VENV=$(need_python_venv openapi "$ROOT/dev/openapi-requirements.txt")
cargo build --quiet --locked -p operator -p fake-image-service --manifest-path "$ROOT/Cargo.toml"
PROGRAMS=${CARGO_TARGET_DIR:-$ROOT/target}/debug
export KUBECONFIG=$VOLUBA_TEST_KUBECONFIG
WORK=$(mktemp -d)
programs=()
trap 'kill "${programs[@]}" 2>/dev/null || true; rm -rf "$WORK"' EXIT

IMAGES=$(free_port) PORT=$(free_port) ADMIN=$(free_port)
until_ready() { curl --silent --fail --noproxy '*' --retry 100 --retry-delay 1 --retry-connrefused --retry-all-errors "http://127.0.0.1:$ADMIN/readyz" >/dev/null; }
calls() ( # path of the description, more options of schemathesis...
  # It keeps a cache in the folder where it runs.
  cd "$WORK"
  "$VENV/bin/st" run "http://127.0.0.1:$PORT$1" --url "http://127.0.0.1:$PORT" --no-color --seed 1 \
    --max-examples "${VOLUBA_OPENAPI_EXAMPLES:-50}" --continue-on-failure \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance "${@:2}"
)
# Counted by the gateway itself: many calls, and each kind of answer among them.
answers() { # method and route and code, as a pattern
  curl --silent --noproxy '*' "http://127.0.0.1:$ADMIN/metrics" | grep -E "^voluba_align_http_answers_total\{$1\}" \
    | awk '{ sum += $2 } END { print sum + 0; exit !(sum > 0) }'
}

"$BIN/kubectl" apply --server-side -f "$ROOT/crds/" >/dev/null
# An operator that works, as far as the gateway can see.
"$BIN/kubectl" --namespace default apply -f - >/dev/null <<LEASE
{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "voluba-align-operator"},
 "spec": {"holderIdentity": "test", "renewTime": "$(date -u -d '+1 hour' +%Y-%m-%dT%H:%M:%S.000000Z)"}}
LEASE
"$PROGRAMS/fake-image-service" "127.0.0.1:$IMAGES" token "$ROOT/examples/data/patch_image.nii.gz" > "$WORK/images" &
programs+=($!)
"$BIN/kubectl" --namespace default create serviceaccount author >/dev/null
AUTHOR=$("$BIN/kubectl" --namespace default create token author --audience voluba-align)
RUST_LOG=info "$PROGRAMS/operator" gateway --namespace default --listen "127.0.0.1:$PORT" --token-review-audience voluba-align --calls-per-minute 100000 --admin-listen "127.0.0.1:$ADMIN" \
  --allow-private-origin "http://127.0.0.1:$IMAGES" 2> "$WORK/log" &
programs+=($!)
check "the gateway is ready" until_ready
check "calls of a caller with a token" calls /openapi.json -H 'Authorization: Bearer token'
check "calls of one with another token" calls /openapi.json -H 'Authorization: Bearer other'
check "calls of one with none" calls /openapi.json
check "new interface: calls of a known caller" calls /v1/openapi.json -H "Authorization: Bearer $AUTHOR" -H 'Image-Service-Token: token'
check "new interface: calls of one whom the image service does not know" calls /v1/openapi.json -H "Authorization: Bearer $AUTHOR" -H 'Image-Service-Token: other'
check "new interface: calls of a stranger" calls /v1/openapi.json -H 'Authorization: Bearer other'
check "new interface: documents were refused by their fields" answers 'method="POST",route="/v1/requests",code="422"'
check "new interface: lists were given out" answers 'method="GET",route="/v1/requests",code="200"'
check "bodies were refused by their fields" answers 'method="POST",route="[^"]*",code="422"'
check "and as no JSON" answers 'method="POST",route="[^"]*",code="400"'
check "states were asked for" answers 'method="GET",route="[^"]*id}",code="200"'
check "no answer was an error of the server" eval '! answers "method=\"[A-Z]*\",route=\"[^\"]*\",code=\"5..\""'
check "the gateway still runs" kill -0 "${programs[1]}"
summary openapi
