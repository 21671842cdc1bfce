# Sourced by dev/test-chart.sh: what the installed chart lets the operator and the gateway do.
ACCOUNT=$RELEASE
may_answer() { # namespace verb resource[/subresource]
  local subresource=()
  [ "${3%/*}" = "$3" ] || subresource=(--subresource "${3#*/}")
  kubectl auth can-i --as "system:serviceaccount:$NAMESPACE:$ACCOUNT" -n "$1" "$2" "${3%/*}" "${subresource[@]}" 2>/dev/null || true
}
may() { [ "$(may_answer "$@")" = yes ]; }
may_not() { [ "$(may_answer "$@")" = no ]; }

notes_request() { sed -n '/<<REQUEST$/,/^REQUEST$/p' "$WORK/install.log" | sed '1d;$d'; }
notes_request_works() { notes_request | kubectl create --dry-run=server --validate=strict -f - ; }
test_pod_is_restricted() {
  helm get hooks "$RELEASE" --namespace "$NAMESPACE" \
    | kubectl create --dry-run=server --validate=strict -f - > "$WORK/hooks.log" 2>&1 || { cat "$WORK/hooks.log"; return 1; }
  no_warning "$WORK/hooks.log"
}

test_rights() {
  local right
  check "installs into a restricted namespace" install "$CHART" "${VALUES[@]}"
  check "without a warning of the API server" no_warning
  check "the notes print a request for the first template" grep -q 'template: example' "$WORK/install.log"
  check "the API server takes the notes' request" notes_request_works
  check "the pod of helm test is valid and restricted" test_pod_is_restricted
  for right in "list alignmentrequests" "patch alignmentrequests/status" "watch depthmaprequests" "patch depthmaprequests/status" "create jobs" "get jobs" "patch jobs" "delete jobs" "watch pods" \
    "get pods/log" "create configmaps" "create events.events.k8s.io" "update leases"; do
    # shellcheck disable=SC2086
    check "the operator may $right" may "$NAMESPACE" $right
  done
  for right in "get secrets" "create pods" "delete pods" "get alignmentrequests" "delete alignmentrequests" "update alignmentrequests" "get pods" "get configmaps" "patch configmaps" "delete configmaps" "delete leases"; do
    # shellcheck disable=SC2086
    check "the operator may not $right" may_not "$NAMESPACE" $right
  done
  check "the operator may do nothing elsewhere" may_not default list alignmentrequests
  check "upgrades to the whole cluster" install "$CHART" --set scope=cluster
  check "cluster scope: the operator may create jobs elsewhere" within 20 may default create jobs
  check "cluster scope: but no leases" may_not default update leases
}

lease_answer() { # verb, name of a lease
  kubectl auth can-i --as "system:serviceaccount:$NAMESPACE:$ACCOUNT" -n "$NAMESPACE" "$1" "leases/$2" 2>/dev/null || true
}
may_lease() { [ "$(lease_answer "$@")" = yes ]; }
may_not_lease() { [ "$(lease_answer "$@")" = no ]; }

# The gateway itself, with the options of its Deployment and the token of its service account.
start_gateway() {
  local options
  kubectl config view --raw > "$WORK/gateway.kubeconfig"
  kubectl --kubeconfig "$WORK/gateway.kubeconfig" config set-credentials gateway \
    --token "$(kubectl -n "$NAMESPACE" create token "$RELEASE-gateway")" >/dev/null
  kubectl --kubeconfig "$WORK/gateway.kubeconfig" config set-context --current --user gateway >/dev/null
  mapfile -t options < <(kubectl -n "$NAMESPACE" get deployment "$RELEASE-gateway" -o json | jq -r '
    .spec.template.spec.containers[0].args[]
    | sub("^--listen=.*"; "--listen=127.0.0.1:18480") | sub("^--admin-listen=.*"; "--admin-listen=127.0.0.1:18481")')
  POD_NAMESPACE=$NAMESPACE KUBECONFIG=$WORK/gateway.kubeconfig RUST_LOG=info "$OPERATOR" "${options[@]}" > "$WORK/gateway.log" 2>&1 &
  gateway_pid=$!
}
stop_gateway() {
  [ -n "${gateway_pid:-}" ] || return 0
  kill "$gateway_pid" 2>/dev/null || true
  wait "$gateway_pid" || true
  gateway_pid=
}
answers() { # code, path [port]
  local code
  code=$(curl --silent --noproxy '*' --output "$WORK/answer" --write-out '%{http_code}' "http://127.0.0.1:${3:-18480}$2")
  [ "$code" = "$1" ] || { echo "$2: $code"; cat "$WORK/answer" "$WORK/gateway.log"; return 1; }
}
has_no_role() { ! kubectl -n "$NAMESPACE" get role "$1"; }
nothing_was_forbidden() { ! grep -i forbidden "$WORK/gateway.log"; }

test_gateway() {
  local right kind
  check "gateway: installs beside the operator" install "$CHART" "${VALUES[@]}" --set gateway.enabled=true,gateway.replicas=1 \
    --set gateway.unknownRequest=not-found
  check "gateway: without a warning" no_warning
  check "gateway: the notes tell its address" grep -q "http://$RELEASE-gateway.$NAMESPACE.svc" "$WORK/install.log"
  ACCOUNT=$RELEASE-gateway
  for kind in alignmentrequests depthmaprequests; do
    for right in create list watch patch delete; do check "the gateway may $right $kind" may "$NAMESPACE" "$right" "$kind"; done
    for right in get update deletecollection; do check "the gateway may not $right $kind" may_not "$NAMESPACE" "$right" "$kind"; done
    check "the gateway may not patch $kind/status" may_not "$NAMESPACE" patch "$kind/status"
  done
  for right in "create secrets" "delete secrets" "get configmaps"; do
    # shellcheck disable=SC2086
    check "the gateway may $right" may "$NAMESPACE" $right
  done
  for right in "get secrets" "list secrets" "watch secrets" "update secrets" "patch secrets" "create jobs" "get pods" "get pods/log" \
    "list configmaps" "create configmaps" "list leases" "create leases" "create events.events.k8s.io"; do
    # shellcheck disable=SC2086
    check "the gateway may not $right" may_not "$NAMESPACE" $right
  done
  check "the gateway may not ask who a token was given to" may_not "$NAMESPACE" create tokenreviews.authentication.k8s.io
  check "the gateway may do nothing elsewhere" may_not default list alignmentrequests
  check "the gateway may make no secret elsewhere" may_not default create secrets
  check "the gateway may get the operator's Lease" may_lease get voluba-align-operator
  check "the gateway may get no other" may_not_lease get other
  check "the gateway may not update it" may_not_lease update voluba-align-operator
  ACCOUNT=$RELEASE

  start_gateway
  check "gateway: is ready with these rights" within 30 answers 200 /readyz 18481
  check "gateway: does as the values say" answers 404 /v0/alignment-computation/0a1b2c3d-0000-4000-8000-000000000000
  check "gateway: reads the Lease of an operator that works no more" answers 500 /v0/worker-health
  check "gateway: and says so" grep -q operator "$WORK/answer"
  check "gateway: nothing was forbidden to it" nothing_was_forbidden
  stop_gateway
  check "gateway: goes with the value" install "$CHART" "${VALUES[@]}"
  check "gateway: leaves no right behind" has_no_role "$RELEASE-gateway"
}

# --- deploy/openshift: what a plain API server can say about it ---
openshift_part() { # file
  kubectl -n "$NAMESPACE" apply --dry-run=server --validate=strict -f "$ROOT/deploy/openshift/$1" > "$WORK/part.log" 2>&1 \
    && no_warning "$WORK/part.log" || { cat "$WORK/part.log"; return 1; }
}
# Their own server is not here; its types are, at the version of dev/openshift/go.mod.
openshift_kinds() {
  local program
  program=$CACHE/openshift-kinds-$(cat "$ROOT"/dev/openshift/* | sha256sum | cut -c 1-12)
  if [ ! -x "$program" ]; then
    need_go
    (cd "$ROOT/dev/openshift" && CGO_ENABLED=0 go build -o "$program" .)
  fi
  "$program" "$ROOT"/deploy/openshift/{imagestreams,buildconfigs,route}.yaml
}
test_openshift() {
  check "OpenShift: the kustomization can be built" kubectl kustomize "$ROOT/deploy/openshift"
  check "OpenShift: the claims are valid" openshift_part claims.yaml
  check "OpenShift: image streams, builds and route have no unknown field" openshift_kinds
  check "OpenShift: the Job that verifies is valid and restricted" openshift_part verify-static-data.yaml
  check "OpenShift: the loader pod is valid and restricted" openshift_part loader.yaml
}
