# Sourced by dev/test-chart.sh: from the previous chart to this one and back, with requests and the real
# operator, which reads its options from the Deployment that the chart made. The test plays the kubelet.
PREVIOUS=$ROOT/dev/fixtures/voluba-align-0.1.0.tgz
OPERATOR=${CARGO_TARGET_DIR:-$ROOT/target}/debug/operator
VALUES=(--set 'templates[0].name=example,templates[0].path=depth.nii.gz,templates[0].default=true')

# A kubeconfig with the token of the chart's service account.
operator_kubeconfig() {
  kubectl config view --raw > "$WORK/operator.kubeconfig"
  kubectl --kubeconfig "$WORK/operator.kubeconfig" config set-credentials operator \
    --token "$(kubectl -n "$NAMESPACE" create token "$RELEASE")" >/dev/null
  kubectl --kubeconfig "$WORK/operator.kubeconfig" config set-context --current --user operator >/dev/null
}
start_operator() { # name of the replica
  local options
  kubectl -n "$NAMESPACE" get configmap "$RELEASE-templates" -o json | jq -r '.data["templates.yaml"]' > "$WORK/templates.yaml"
  mapfile -t options < <(kubectl -n "$NAMESPACE" get deployment "$RELEASE" -o json | jq -r --arg file "$WORK/templates.yaml" '
    .spec.template.spec.containers[0].args[]
    | sub("^--templates-file=.*"; "--templates-file=" + $file) | sub("^--listen=.*"; "--listen=127.0.0.1:0")')
  POD_NAME=$1 POD_NAMESPACE=$NAMESPACE KUBECONFIG=$WORK/operator.kubeconfig RUST_LOG=info \
    "$OPERATOR" "${options[@]}" > "$WORK/$1.log" 2>&1 &
  operator_pid=$!
}
stop_operator() {
  [ -n "${operator_pid:-}" ] || return 0
  local status=0
  kill "$operator_pid" 2>/dev/null || true
  # As long as a cluster gives it.
  within 30 operator_gone || { status=1; kill -KILL "$operator_pid"; }
  wait "$operator_pid" || true
  operator_pid=
  return "$status"
}
operator_gone() { ! kill -0 "$operator_pid" 2>/dev/null; }
# The previous chart knows no depth maps: a new operator may not look for them there, and does the rest.
no_refusal() {
  ! { grep -h -i forbidden "$WORK/old.log" | grep -v depthmaprequests; grep -i forbidden "$WORK/new.log"; }
}

pod_of() { kubectl -n "$NAMESPACE" get pods -l "voluba.ebrains.eu/request=$1" -o name | grep . ; }
set_pod() { # request, phase, state of its container
  kubectl -n "$NAMESPACE" patch "$(pod_of "$1")" --subresource=status --type=merge -p "$(jq -n --arg phase "$2" --argjson state "$3" \
    '{status: {phase: $phase, containerStatuses: [{name: "aligner", image: "i", imageID: "i", ready: false, restartCount: 0, state: $state}]}}')"
}
run_pod() { within 30 pod_of "$1" && set_pod "$1" Running '{"running": {}}'; }
end_pod() {
  local quality message
  quality=$(jq -n '[("depthResidualBefore", "depthResidualAfter", "overlap", "jacobianMin", "jacobianMax", "foldedCells",
    "inverseJacobianMin", "inverseFoldedCells", "inverseConsistencyMeanMm", "inverseConsistencyMaxMm", "displacementMeanMm",
    "displacementMaxMm") | {(.): 0}] | add')
  message=$(jq -nc --argjson quality "$quality" '{schema: "voluba.ebrains.eu/termination/v1", outcome: "Success", result: {quality: $quality, artifacts: []}}')
  set_pod "$1" Succeeded "$(jq -n --arg message "$message" '{terminated: {exitCode: 0, message: $message}}')"
}
create() { request_json "$1" "${2:-.}" | kubectl create -f - ; }
jobs_of() { # request, number
  [ "$(kubectl -n "$NAMESPACE" get jobs -o json | jq --arg request "$1" '[.items[] | select(.metadata.labels["voluba.ebrains.eu/request"] == $request)] | length')" = "$2" ]
}
# Metadata (with uid, generation and resourceVersion) and status are what they were, to the byte. What its
# author wrote is there unchanged; a definition with more defaults may show more beside it.
same_request() { # request
  get_request "$1" > "$WORK/$1.after"
  diff <(jq -S 'del(.spec)' "$WORK/$1.before") <(jq -S 'del(.spec)' "$WORK/$1.after") || return 1
  jq -e --argjson written "$(request_json "$1")" '
    .spec as $spec | [$written.spec | paths(scalars) as $path | select(getpath($path) != ($spec | getpath($path))) | $path] == []' "$WORK/$1.after"
}
definition_is() { # file, resource: the schema that the API server holds
  diff <(kubectl create --dry-run=client --validate=ignore -o json -f "$1" | jq -S '.spec.versions[0].schema') \
    <(kubectl get crd "${2:-alignmentrequests}.voluba.ebrains.eu" -o json | jq -S '.spec.versions[0].schema')
}
takes_new_fields() { # a field that the previous definition does not know
  request_json new-field '.spec.credentials = {secretName: "token"}' | kubectl create --dry-run=server --validate=strict -f - > "$WORK/new-field.log" 2>&1
}

# Every object of the cluster that can be listed, but for what comes and goes by itself.
everything() {
  local kinds
  kinds=$(kubectl api-resources --verbs=list -o name | grep -v -E '^(events|endpoints$|componentstatuses|apiservices)|^leases.*flow|metrics.k8s.io' | paste -sd,)
  kubectl get "$kinds" --all-namespaces --ignore-not-found -o json \
    | jq -r '.items[] | "\(.kind) \(.metadata.namespace // "-") \(.metadata.name)"' | sort -u
}
left_over() { # what must be left, one object a line
  everything > "$WORK/everything.after"
  diff <(comm -13 "$WORK/everything.before" "$WORK/everything.after" | sed -E "s/(Job|Pod) $NAMESPACE ([a-z]+)-.*/\1 $NAMESPACE \2-…/") <(sort <<< "$1")
}

test_upgrade() {
  local name
  cargo build --quiet --locked -p operator --manifest-path "$ROOT/Cargo.toml"
  install_monitoring_definitions
  make_namespace "$NAMESPACE"
  within 20 kubectl -n "$NAMESPACE" get configmap/kube-root-ca.crt serviceaccount/default
  everything > "$WORK/everything.before"
  tar -xzf "$PREVIOUS" -O voluba-align/files/crds/alignmentrequests.yaml > "$WORK/previous-crd.yaml"
  check "upgrade: the previous chart is installed" install "$PREVIOUS" "${VALUES[@]}"
  check "upgrade: its definition is established" installed_crd
  check "upgrade: it is the previous one" definition_is "$WORK/previous-crd.yaml"
  check "upgrade: it does not know a later field" eval '! takes_new_fields'
  operator_kubeconfig
  start_operator old
  for name in finished running waiting; do check "upgrade: request $name is made" create "$name"; done
  check "upgrade: finished runs" run_pod finished
  check "upgrade: finished is seen running" within 30 phase_is finished Running
  check "upgrade: finished ends" end_pod finished
  check "upgrade: finished is Succeeded" within 60 phase_is finished Succeeded
  check "upgrade: running runs" run_pod running
  check "upgrade: running is Running" within 30 phase_is running Running
  check "upgrade: waiting is Pending" within 30 phase_is waiting Pending
  check "upgrade: waiting has its Job" within 30 jobs_of waiting 1
  check "upgrade: an operator that may not see depth maps yet ends when it is asked to" stop_operator
  for name in finished running waiting; do get_request "$name" > "$WORK/$name.before"; done

  check "upgrade: to this chart" install "$CHART" "${VALUES[@]}"
  check "upgrade: without a warning" no_warning
  check "upgrade: the definition is the new one" within 20 definition_is "$ROOT/crds/alignmentrequests.yaml"
  check "upgrade: the definition of depth maps is there" within 20 definition_is "$ROOT/crds/depthmaprequests.yaml" depthmaprequests
  check "upgrade: it takes the later field" within 20 takes_new_fields
  for name in finished running waiting; do check "upgrade: $name is untouched" same_request "$name"; done
  start_operator new
  check "upgrade: running ends" end_pod running
  check "upgrade: running is Succeeded" within 60 phase_is running Succeeded
  check "upgrade: waiting runs" run_pod waiting
  check "upgrade: waiting is Running" within 30 phase_is waiting Running
  check "upgrade: waiting ends" end_pod waiting
  check "upgrade: waiting is Succeeded" within 60 phase_is waiting Succeeded
  check "upgrade: a new request gets a Job" create late
  check "upgrade: late runs" run_pod late
  for name in finished running waiting late; do check "upgrade: $name had exactly one Job" jobs_of "$name" 1; done
  check "upgrade: finished is still untouched" same_request finished
  check "upgrade: nothing was forbidden to the operator" no_refusal
  check "upgrade: the operator ends when it is asked to" stop_operator
}

test_rollback() {
  helm get manifest "$RELEASE" --namespace "$NAMESPACE" --revision 1 > "$WORK/revision-1"
  get_request finished > "$WORK/finished.before"
  check "rollback: to the previous chart" helm rollback "$RELEASE" 1 --namespace "$NAMESPACE"
  check "rollback: the manifests are those of the first revision" \
    diff "$WORK/revision-1" <(helm get manifest "$RELEASE" --namespace "$NAMESPACE")
  check "rollback: the definition is the previous one" within 20 definition_is "$WORK/previous-crd.yaml"
  check "rollback: finished is untouched" same_request finished
  check "rollback: and forward again" install "$CHART" "${VALUES[@]}" --set scope=cluster,rbac.aggregate=true \
    --set admissionPolicy.enabled=true,networkPolicy.enabled=true,podDisruptionBudget.enabled=true \
    --set monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true \
    --set gateway.enabled=true
}

test_uninstall() {
  # It works on, as a pod does until it hears of its end, and must not bring its Lease back.
  operator_kubeconfig
  start_operator last
  check "uninstall: an operator leads" within 30 grep -q leading "$WORK/last.log"
  check "uninstall: with every option on" helm uninstall "$RELEASE" --namespace "$NAMESPACE"
  check "uninstall: an operator that is left over gives up" within 60 operator_gone
  check "uninstall: leaves the definitions, the claim, the requests with their Jobs, and nothing else" \
    within 60 left_over "AlignmentRequest $NAMESPACE finished
AlignmentRequest $NAMESPACE late
AlignmentRequest $NAMESPACE running
AlignmentRequest $NAMESPACE waiting
CustomResourceDefinition - alignmentrequests.voluba.ebrains.eu
CustomResourceDefinition - depthmaprequests.voluba.ebrains.eu
Job $NAMESPACE finished-…
Job $NAMESPACE late-…
Job $NAMESPACE running-…
Job $NAMESPACE waiting-…
PersistentVolumeClaim $NAMESPACE $RELEASE-static-data
Pod $NAMESPACE finished-…
Pod $NAMESPACE late-…
Pod $NAMESPACE running-…
Pod $NAMESPACE waiting-…"
  stop_operator
  check "uninstall: installs again over what was kept" install "$CHART" "${VALUES[@]}"
  check "uninstall: finished is untouched" same_request finished
}
