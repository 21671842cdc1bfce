# Sourced by dev/test-chart.sh: the admission policy, asked by users with and without the right to the Secret.
POLICY=$RELEASE.$NAMESPACE
GATEWAY=system:serviceaccount:$NAMESPACE:gateway

make_users() {
  kubectl -n "$NAMESPACE" create role author --verb=create --resource=alignmentrequests.voluba.ebrains.eu,depthmaprequests.voluba.ebrains.eu
  kubectl -n "$NAMESPACE" create role reader --verb=get --resource=secrets --resource-name=mine
  kubectl -n "$NAMESPACE" create rolebinding author --role=author --user=alice --user=bob --serviceaccount="$NAMESPACE:gateway"
  kubectl -n "$NAMESPACE" create rolebinding reader --role=reader --user=alice
  kubectl -n default create role author --verb=create --resource=alignmentrequests.voluba.ebrains.eu,depthmaprequests.voluba.ebrains.eu
  kubectl -n default create rolebinding author --role=author --user=alice
}
asks() { # user, jq edit: has the request made, without keeping it
  request_json asked "$2" | kubectl create --as "$1" --dry-run=server --validate=strict -f - > "$WORK/asked.log" 2>&1
}
allowed() { asks "$@" || { cat "$WORK/asked.log"; return 1; }; }
denied() { # text, user, jq edit: refused with that text
  ! asks "$2" "$3" && grep -qF -- "$1" "$WORK/asked.log" || { cat "$WORK/asked.log"; return 1; }
}
names_secret() { echo ".spec.credentials = {secretName: \"$1\"}"; }
images() { echo ".spec.patch.images = [range($1) as \$i | .spec.patch.images[0] | .name = \"image\(\$i)\"]"; }
policy_is_typed() { # name
  kubectl get validatingadmissionpolicy "$1" -o json | jq -e '.status.typeChecking and (.status.typeChecking.expressionWarnings // [] == [])'
}
asks_for_depth() { # user, jq edit
  jq -n --arg namespace "$NAMESPACE" '{apiVersion: "voluba.ebrains.eu/v1alpha1", kind: "DepthMapRequest", metadata: {name: "asked", namespace: $namespace},
    spec: {activeDeadlineSeconds: 3600, segmentation: {source: {volume: {claimName: "patches", path: "s.nii.gz"}}}, output: {destination: {volume: {claimName: "results", path: "asked"}}}}}
    | '"$2" | kubectl create --as "$1" --dry-run=server --validate=strict -f - > "$WORK/asked.log" 2>&1
}
depth_allowed() { asks_for_depth "$@" || { cat "$WORK/asked.log"; return 1; }; }
depth_denied() { # text, user, jq edit
  ! asks_for_depth "$2" "$3" && grep -qF -- "$1" "$WORK/asked.log" || { cat "$WORK/asked.log"; return 1; }
}

test_admission() {
  local options=("${VALUES[@]}" --set admissionPolicy.enabled=true --set admissionPolicy.maxImages=2
    --set admissionPolicy.maxDeadlineSeconds=3600 --set "admissionPolicy.trustedUsers[0]=$GATEWAY"
    --set aligner.maxMemory=4Gi --set-string aligner.maxCpu=2)
  check "admission: users are made" make_users
  check "admission: without the policy, a foreign Secret may be named" within 20 allowed bob "$(names_secret mine)"
  create large '.spec.resources.memory = "8Gi"' >/dev/null
  check "admission: the chart with the policy is installed" install "$CHART" "${options[@]}"
  check "admission: without a warning" no_warning
  check "admission: the policy holds" within 30 denied 'may not read' bob "$(names_secret mine)"
  check "admission: the API server finds its types right" within 30 policy_is_typed "$POLICY"
  check "admission: and those of the policy for depth maps" within 30 policy_is_typed "$POLICY.depth-maps"

  check "admission: a request without a Secret is allowed" allowed bob .
  check "admission: the Secret that the author may read is allowed" allowed alice "$(names_secret mine)"
  check "admission: another one is refused, by name" \
    denied 'spec.credentials.secretName: user "alice" may not read the Secret "other"' alice "$(names_secret other)"
  check "admission: nobody else may name it" denied 'user "bob" may not read the Secret "mine"' bob "$(names_secret mine)"
  check "admission: a trusted user may" allowed "$GATEWAY" "$(names_secret mine)"

  check "admission: memory at the limit" allowed bob '.spec.resources.memory = "4096Mi"'
  check "admission: memory above it" denied 'spec.resources.memory: 4097Mi is more than 4Gi' bob '.spec.resources.memory = "4097Mi"'
  check "admission: CPU at the limit" allowed bob '.spec.resources.cpu = "2000m"'
  check "admission: CPU above it" denied 'spec.resources.cpu: 2001m is more than 2' bob '.spec.resources.cpu = "2001m"'
  check "admission: no resources named" allowed bob 'del(.spec.resources)'
  check "admission: two images" allowed bob "$(images 2)"
  check "admission: three" denied 'spec.patch.images: 3 are more than 2' bob "$(images 3)"
  check "admission: an hour" allowed bob '.spec.activeDeadlineSeconds = 3600'
  check "admission: a second more" denied 'spec.activeDeadlineSeconds: 3601 is more than 3600' bob '.spec.activeDeadlineSeconds = 3601'
  check "admission: the default deadline is looked at, too" denied '21600 is more than 3600' bob 'del(.spec.activeDeadlineSeconds)'
  check "admission: no template named" allowed bob 'del(.spec.template)'
  check "admission: one that is not offered" denied 'spec.template: "mni" is not offered here, but example' bob '.spec.template = "mni"'
  check "admission: other namespaces are not its business" allowed alice '.metadata.namespace = "default" | .spec.resources.memory = "8Gi"'
  check "admission: a depth map without a Secret is allowed" within 30 depth_allowed bob .
  check "admission: depth map: the Secret that the author may read" depth_allowed alice "$(names_secret mine)"
  check "admission: depth map: another one" within 30 depth_denied 'user "bob" may not read the Secret "mine"' bob "$(names_secret mine)"
  check "admission: depth map: memory above the limit" depth_denied '4097Mi is more than 4Gi' bob '.spec.resources.memory = "4097Mi"'
  check "admission: depth map: a second too long" depth_denied '3601 is more than 3600' bob '.spec.activeDeadlineSeconds = 3601'
  check "admission: a request that was there before can still change" \
    kubectl -n "$NAMESPACE" patch alignmentrequest large --type=merge -p '{"spec": {"suspend": true}}'
  check "admission: with the chart's own gateway" install "$CHART" "${options[@]}" --set gateway.enabled=true --set admissionPolicy.maxDeadlineSeconds=21600
  check "admission: it may name a Secret that it cannot read" within 30 allowed "system:serviceaccount:$NAMESPACE:$RELEASE-gateway" "$(names_secret later)"
  check "admission: for a depth map, too" depth_allowed "system:serviceaccount:$NAMESPACE:$RELEASE-gateway" "$(names_secret later)"
  check "admission: nobody else may, still" denied 'may not read' bob "$(names_secret later)"
  check "admission: the policy goes with the value" install "$CHART" "${VALUES[@]}"
  check "admission: and no longer holds" within 30 allowed bob "$(names_secret mine)"
}
