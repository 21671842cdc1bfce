# Sourced by the node test, after lifecycle.sh: an installation's own life on real pods. The previous chart is
# upgraded while a request computes, a request waits for static data until a Job has loaded it, all is removed and
# installed again. Every pod has a user number such as OpenShift gives. Leaves the chart installed.

PREVIOUS_CHART=$ROOT/dev/fixtures/voluba-align-0.1.0.tgz
TEMPLATE_FILE=$ROOT/examples/data/template_depth.nii.gz
# Where a loader puts the template; the claim's root has it as well, for the other tests.
LOADED=(--set 'templates[0].path=current/template_depth.nii.gz')
# The claim of the patches has the template, too.
LOADER=(--set "staticData.load.sourceClaim=patches,staticData.load.files[0].path=template_depth.nii.gz"
  --set "staticData.load.files[0].source=/source/template_depth.nii.gz,staticData.load.files[0].bytes=$(stat -c %s "$TEMPLATE_FILE")"
  --set-string "staticData.load.files[0].sha256=$(sha256sum "$TEMPLATE_FILE" | cut -d' ' -f1)")

install_previous() { CHART=$PREVIOUS_CHART install_chart "$@"; }
chart_is() { # version
  helm list --namespace "$NAMESPACE" -o json | jq -e --arg chart "voluba-align-$1" '.[0].chart == $chart'
}
static_data_ready() { # request, True | False
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json \
    | jq -e --arg status "$2" '[.status.conditions[]? | select(.type == "StaticDataReady")][0].status == $status' >/dev/null
}
attempts_are() { is "$2" "$(kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o jsonpath='{.status.attempts}')"; }
loader_pods() { awk '/^voluba-align-static-data-loader-/ { print $1 }' "$WORK/pods" | sort -u | grep -c . || true; }
loaded_by() { # number of loader pods so far; the Job itself is removed
  is "$1" "$(loader_pods)" && ! kubectl -n "$NAMESPACE" get job voluba-align-static-data-loader \
    && cmp "$TEMPLATE_FILE" "$(claim_folder static-data)/current/template_depth.nii.gz"
}
operator_leads() { kubectl -n "$NAMESPACE" logs "deployment/$RELEASE" | grep -q '"leading"'; }
no_operator() { [ -z "$(kubectl -n "$NAMESPACE" get pods -l app.kubernetes.io/component=operator -o name)" ]; }
no_lease() { ! kubectl -n "$NAMESPACE" get lease voluba-align-operator; }

OPENSHIFT=$ROOT/dev/manifests/as-openshift.yaml
# A policy holds a moment after it was made.
is_as_openshift() {
  kubectl -n "$NAMESPACE" run probe --image=none --dry-run=server -o json --overrides='{"spec": {"securityContext": {
    "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "probe", "image": "none",
    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}' \
    | jq -e '.spec.securityContext | .runAsUser == 1000680000 and .fsGroup == 1000680000' >/dev/null
}
operator_user_is() { is "$1" "$(operator_pod | jq -r '[.items[].spec.securityContext.runAsUser] | unique | join(" ")')"; }
written_by() { # user:group, folder
  [ -n "$(find "$2" -type f)" ] && is "$1" "$(find "$2" -type f -exec stat -c %u:%g {} + | sort -u)"
}

test_delivery() {
  local name
  check "OpenShift: its user numbers are simulated" kubectl apply -f "$OPENSHIFT"
  check "OpenShift: pods get them" within 30 is_as_openshift
  check "upgrade: the previous chart is installed" install_previous --timeout 60s
  # It is this version's program: the previous chart gives it no right to depth maps, so that it is not ready.
  check "upgrade: its operator works" within 60 operator_leads
  check "upgrade: it is the previous one" chart_is 0.1.0
  check "OpenShift: the operator runs as that user" operator_user_is 1000680000
  # With a fiftieth of a core it takes longer than all that follows.
  check "upgraded: is accepted" slow_request upgraded '.spec.resources.cpu = "20m"'
  check "upgraded: computes" within 60 is_in_phase upgraded Running
  # The template's new place is empty so far.
  check "upgrade: to this chart, while it computes" install_chart "${LOADED[@]}" --timeout 60s
  check "upgrade: the operator is ready" operator_ready
  check "upgraded: still computes" is_in_phase upgraded Running
  check "early: is accepted" slow_request early
  check "early: waits for the static data" within 60 progressing_is early TemplateUnavailable
  check "early: says so" static_data_ready early False
  check "loader: its Job runs before an upgrade" install_chart "${LOADED[@]}" "${LOADER[@]}" --timeout 120s
  check "loader: one pod has loaded the file, and is gone" loaded_by 1
  check "loader: the operator is ready" operator_ready
  check "early: succeeds by itself" ends_as early Succeeded
  check "early: in one attempt" attempts_are early 1
  check "early: its template was there" static_data_ready early True
  ended_well upgraded 1 1
  check "OpenShift: results belong to that user, in group 0" written_by 1000680000:0 "$(claim_folder results)/early"
  check "OpenShift: so does the loaded template" written_by 1000680000:0 "$(claim_folder static-data)/v"
  check "upgrade: nothing was forbidden to the operator" operator_was_allowed
  for name in early upgraded; do check "$name: deleted" delete_request "$name"; done
  for name in early upgraded; do check "$name: nothing is left" gone_within "$name" 90; done

  check "uninstall: ends the operator" helm uninstall "$RELEASE" --namespace "$NAMESPACE" --timeout 60s
  check "uninstall: its pods are gone" within 60 no_operator
  check "uninstall: it left no Lease" no_lease
  check "uninstall: the loaded file stays" cmp "$TEMPLATE_FILE" "$(claim_folder static-data)/current/template_depth.nii.gz"
  check "loader: its Job runs after an installation" install_chart "${LOADED[@]}" "${LOADER[@]}" --timeout 120s
  check "loader: one more pod has checked the file, and is gone" loaded_by 2
  check "helm test reads the loaded template" helm_test
  check "OpenShift: the simulation ends" kubectl delete -f "$OPENSHIFT"
}
