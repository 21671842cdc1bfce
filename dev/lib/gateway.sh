# Sourced by the node test, after example.sh: the gateway on real pods, called in the order in which the front end
# calls it. The image service runs in the node's network, where pods reach it.

TOKEN=node-test-token
IMAGES=http://$POD_NETWORK.1:18080
CHUMNI=$IMAGES/chumni/v1

start_image_service() {
  cargo build --quiet --locked -p fake-image-service --manifest-path "$ROOT/Cargo.toml"
  local data=$ROOT/examples/data program=${CARGO_TARGET_DIR:-$ROOT/target}/debug/fake-image-service
  nsenter --target "$(init_pid)" --net -- "$program" "$POD_NETWORK.1:18080" "$TOKEN" \
    "$data/patch_image.nii.gz" "labels=$data/patch_segmentation.nii.gz" > "$WORK/image-service.log" 2>&1 &
  image_service=$!
}
in_node() { nsenter --target "$(init_pid)" --net -- "$@"; }
listed() { # name, type: how the image service lists it
  in_node curl --silent --fail --noproxy '*' -H "Authorization: Bearer $TOKEN" "$CHUMNI/list" \
    | jq -e --arg name "$1" --arg type "$2" '.[] | select(.name == $name and .extra.neuroglancer.type == $type)' >/dev/null
}
gateway_ready() { kubectl -n "$NAMESPACE" rollout status deployment/voluba-align-gateway --timeout=60s >/dev/null; }
# There is no kube-proxy: any of its pods is asked.
gateway_address() {
  kubectl -n "$NAMESPACE" get pods -l app.kubernetes.io/component=gateway -o json \
    | jq -r '[.items[] | select(.status.phase == "Running" and .metadata.deletionTimestamp == null)][0].status.podIP'
}
call() { # path, curl options...: the answer's body
  in_node curl --silent --show-error --noproxy '*' --max-time 20 "${@:2}" "http://$(gateway_address):8080$1"
}
post() { # path, body
  call "$1" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -H 'Origin: https://voluba.example.org' --data "$2"
}
# As the front end: once a second until it has ended. The last answer is in a file.
poll() { # path, file
  local end=$((SECONDS + ${VOLUBA_NODE_TIMEOUT:-300}))
  while [ "$SECONDS" -lt "$end" ]; do
    call "$1" > "$2"
    jq -r .message "$2" >> "$WORK/messages"
    ! jq -e .finished "$2" >/dev/null || return 0
    sleep 1
  done
  cat "$2"
  return 1
}
compute() { # path, body, file: accepted, and followed to its end
  post "$1" "$2" > "$3"
  local url
  url=$(jq -er .status_polling_url "$3") || { cat "$3"; return 1; }
  poll "$url" "$3" && jq -e '.message == "SUCCESS (success)" and (has("error") | not)' "$3" || { cat "$3"; return 1; }
}
result() { jq -er ".results.$2" "$WORK/$1.json"; } # file, field
body_of_alignment() {
  local depth_map
  depth_map=$(result depth-map depth_map_name)
  "$BIN/kubectl" annotate --local -f "$ROOT/examples/image-service.yaml" voluba-align/read=true -o json \
    | jq -c --arg base "$CHUMNI" --arg depth "$depth_map" '{image_service_base_url: $base, image_name: "patch_image",
        depth_map_name: $depth, transformation_matrix: .spec.placement.matrix,
        landmark_pairs: [.spec.landmarks[] | {source_point: .template, target_point: .patch, active: true, name, colour: "#fff"}]}'
}
shown_in_nanometres() { # the viewer's matrix: the last column times a million
  jq -e '.results.transformation_matrix | length == 4 and ([.[0:3][] | .[3] * 1e6] | all(type == "number"))' "$WORK/alignment.json"
}
an_operator_works() { [ "$(call /v0/worker-health -o /dev/null -w "%{http_code}")" = 200 ]; }
named_after_the_segmentation() {
  [[ $(result depth-map depth_map_name) = patch_segmentation-equivolumetric-depth* ]]
}
# The same over the new interface, by the example of a client: who calls is a user of the cluster.
request_over_http() { # file: examples/image-service.yaml, for this image service and without the name of a Secret
  "$BIN/kubectl" annotate --local -f "$ROOT/examples/image-service.yaml" voluba-align/read=true -o json \
    | jq --arg base "$CHUMNI" 'del(.metadata.annotations, .spec.credentials, .spec.landmarks)
        | (.. | objects | select(has("baseUrl"))).baseUrl = $base' > "$1"
}
align_over_http() { # file for what it says
  request_over_http "$WORK/over-http.json"
  VOLUBA_TOKEN=$(kubectl -n "$NAMESPACE" create token default --audience voluba-align) || return 1
  VOLUBA_TOKEN=$VOLUBA_TOKEN IMAGE_SERVICE_TOKEN=$TOKEN no_proxy='*' \
    in_node timeout 300 python3 "$ROOT/examples/align_http.py" "http://$(gateway_address):8080" "$WORK/over-http.json" > "$1" 2>&1 \
    || { cat "$1"; return 1; }
}
http_id() { sed -n '1s|.*/||p' "$WORK/over-http.log"; }
seen_over_http() { # jq filter
  call "/v1/requests/$(http_id)" | jq -e "$1" >/dev/null || { call "/v1/requests/$(http_id)"; return 1; }
}
picture_over_http() {
  local name
  name=$(call "/v1/requests/$(http_id)" | jq -er '.pictures | map(select(startswith("after")))[0]') || return 1
  call "/v1/requests/$(http_id)/pictures/$name" -o "$WORK/picture.png" && [ "$(head -c 4 "$WORK/picture.png" | tail -c 3)" = PNG ]
}
cancel_over_http() {
  local token id end=$((SECONDS + 60))
  token=$(kubectl -n "$NAMESPACE" create token default --audience voluba-align) || return 1
  id=$(call /v1/requests -H "Authorization: Bearer $token" -H "Image-Service-Token: $TOKEN" -H 'Content-Type: application/json' \
    --data "@$WORK/over-http.json" | jq -er .id) || return 1
  call "/v1/requests/$id/cancel" -X POST -H "Authorization: Bearer $token" > "$WORK/cancelled.json" || return 1
  until call "/v1/requests/$id" | jq -e '.phase == "Cancelled"' >/dev/null; do
    [ "$SECONDS" -lt "$end" ] || { call "/v1/requests/$id"; return 1; }
    sleep 1
  done
  [ -z "$(kubectl -n "$NAMESPACE" get jobs -l "voluba.ebrains.eu/request=$id" -o name)" ]
}
# The pictures of the newest request of a kind: PNG files, which belong to it.
pictures() { # kind, names of all its files
  local name
  name=$(kubectl -n "$NAMESPACE" get "$1" --sort-by=.metadata.creationTimestamp -o name | tail -n 1)
  kubectl -n "$NAMESPACE" get configmap "voluba-pictures-${name#*/}" -o json > "$WORK/pictures.json" \
    && jq -e --arg names "$2" --arg uid "$(kubectl -n "$NAMESPACE" get "$name" -o jsonpath='{.metadata.uid}')" '
      .immutable and .metadata.ownerReferences[0].uid == $uid and (.binaryData | keys) == ($names / " ")
      and (.binaryData | all(.[]; startswith("iVBORw0KGgo")))' "$WORK/pictures.json" >/dev/null
}
has_curve() { jq -e '.data["curve.json"] | fromjson | length > 1 and .[-1].metric < .[0].metric' "$WORK/pictures.json" >/dev/null; }
no_token_left() {
  [ -z "$(kubectl -n "$NAMESPACE" get secrets -l voluba.ebrains.eu/gateway -o name)" ]
}
token_in_no_log() {
  ! { kubectl -n "$NAMESPACE" logs -l app.kubernetes.io/part-of=voluba-align --tail=-1; cat "$WORK/image-service.log"; } | grep -m 1 "$TOKEN"
}

test_gateway() {
  local body
  start_image_service
  check "gateway: is installed" install_chart --timeout 60s --set gateway.enabled=true \
    --set 'gateway.corsOrigins[0]=https://voluba.example.org' \
    --set gateway.identity.tokenReviewAudience=voluba-align \
    --set "allowedOrigins[0].origin=$IMAGES,allowedOrigins[0].private=true"
  check "gateway: its pods are ready" gateway_ready
  check "gateway: the operator is ready" operator_ready
  check "gateway: the image service lists the example" within 20 listed patch_segmentation segmentation
  check "gateway: an operator works" within 20 an_operator_works
  body=$(jq -nc --arg base "$CHUMNI" '{image_service_base_url: $base, segmentation_name: "patch_segmentation"}')
  check "gateway: a depth map is computed" compute /v0/depth-map-computation/ "$body" "$WORK/depth-map.json"
  check "gateway: it is one by its name" named_after_the_segmentation
  check "gateway: the image service has it" listed "$(result depth-map depth_map_name)" image
  check "gateway: the depth map has pictures" within 40 pictures depthmaprequests "depth-0.png depth-1.png depth-2.png"
  check "gateway: Neuroglancer finds it" in_node curl --silent --fail --noproxy '*' -o /dev/null \
    "$(result depth-map depth_map_neuroglancer_url | sed 's|^precomputed://||')/info"
  check "gateway: an alignment is computed" compute /v0/alignment-computation/ "$(body_of_alignment)" "$WORK/alignment.json"
  check "gateway: the image service has its result" listed "$(result alignment transformed_image_name)" image
  check "gateway: it has pictures from before and after" within 40 pictures alignmentrequests \
    "after-0.png after-1.png after-2.png before-0.png before-1.png before-2.png"
  check "gateway: and the course of the registration" has_curve
  check "gateway: the matrix can be shown" shown_in_nanometres
  check "gateway: an alignment over the new interface" align_over_http "$WORK/over-http.log"
  check "gateway: it was followed while it ran" grep -q '^Running [a-z]' "$WORK/over-http.log"
  check "gateway: the image service has its result" listed "$(sed -n 's/^image \([^ ]*\) .*/\1/p' "$WORK/over-http.log" | head -1)" image
  check "gateway: its curve falls" seen_over_http '.curve | length > 3 and .[0].metric > .[-1].metric'
  check "gateway: it has a picture" picture_over_http
  check "gateway: one is cancelled" cancel_over_http
  check "gateway: no token is left" within 5 no_token_left
  check "gateway: no log holds it" token_in_no_log
  check "gateway: stages were told" grep -q '^PROGRESS (' "$WORK/messages"
  kill "$image_service" 2>/dev/null || true
  image_service=
  check "gateway: is removed" install_chart --timeout 60s
}
