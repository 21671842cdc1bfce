# Sourced by dev/test-chart.sh: what the installed chart lets the operator do.
may_answer() { # namespace verb resource[/subresource]
  local subresource=()
  [ "${3%/*}" = "$3" ] || subresource=(--subresource "${3#*/}")
  kubectl auth can-i --as "system:serviceaccount:$NAMESPACE:$RELEASE" -n "$1" "$2" "${3%/*}" "${subresource[@]}" 2>/dev/null || true
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
  for right in "list alignmentrequests" "patch alignmentrequests/status" "create jobs" "get jobs" "patch jobs" "watch pods" \
    "get pods/log" "create events.events.k8s.io" "update leases"; do
    # shellcheck disable=SC2086
    check "the operator may $right" may "$NAMESPACE" $right
  done
  for right in "get secrets" "create pods" "delete jobs" "get alignmentrequests" "delete alignmentrequests" "update alignmentrequests" "get pods" "get configmaps" "delete leases"; do
    # shellcheck disable=SC2086
    check "the operator may not $right" may_not "$NAMESPACE" $right
  done
  check "the operator may do nothing elsewhere" may_not default list alignmentrequests
  check "upgrades to the whole cluster" install "$CHART" --set scope=cluster
  check "cluster scope: the operator may create jobs elsewhere" within 20 may default create jobs
  check "cluster scope: but no leases" may_not default update leases
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
