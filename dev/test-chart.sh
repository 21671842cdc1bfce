#!/usr/bin/env bash
# Tests the Helm chart: lint, rendering over several sets of values, refusal of wrong values, and
# installation into a real API server whose namespace enforces the Pod Security level "restricted".
# Needs no root. Prints "chart: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/check.sh"
if [ -z "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  exec "$ROOT/dev/with-control-plane.sh" "$0"
fi
need_command jq jq

CHART=$ROOT/charts/voluba-align
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
kube_version() { kubectl version -o json | jq -r .serverVersion.gitVersion; }
KUBE_VERSION=$(kube_version)

# Renders to $WORK/all.json, a stream of objects. kubectl only converts YAML to JSON here.
render() { # helm options...
  helm template voluba-align "$CHART" --namespace voluba --kube-version "$KUBE_VERSION" "$@" > "$WORK/all.yaml" || return 1
  kubectl create --dry-run=client --validate=ignore -o json -f "$WORK/all.yaml" | jq -c 'if .kind == "List" then .items[] else . end' > "$WORK/all.json"
}
any_object() { jq -s "[.[] | select($1)] | length > 0" "$WORK/all.json"; }
objects() { [ "$(any_object "$1")" = true ]; } # jq condition
no_objects() { [ "$(any_object "$1")" = false ]; }
refused() { ! helm template voluba-align "$CHART" --kube-version "$KUBE_VERSION" "$@" >/dev/null 2>&1; }

check "lint finds nothing" helm lint --strict --quiet "$CHART"
check "README.md and the copy of crds/ are up to date" "$ROOT/dev/generate-chart.sh" --check

check "renders with default values" render --include-crds
check "the resource definition is rendered, and kept" \
  objects '.kind == "CustomResourceDefinition" and .metadata.annotations["helm.sh/resource-policy"] == "keep"'
check "no cluster-wide rights by default" no_objects '.kind == "ClusterRole" or .kind == "ClusterRoleBinding"'
check "no network policy by default" no_objects '.kind == "NetworkPolicy"'
check "secrets are out of reach" no_objects '.rules // [] | any(.resources // [] | index("secrets"))'
check "no right is a wildcard" no_objects '.rules // [] | any((.verbs + .resources + .apiGroups) | index("*"))'
check "no user or group number anywhere" \
  no_objects '[.. | objects | keys[] | select(. == "runAsUser" or . == "runAsGroup" or . == "fsGroup")] | length > 0'
check "the operator serves its own namespace" \
  no_objects '.kind == "Deployment" and (.spec.template.spec.containers[0].args | index("--all-namespaces"))'
check "the static data comes from the chart's claim" \
  objects '.kind == "Deployment" and (.spec.template.spec.containers[0].args | index("--static-data-claim=voluba-align-static-data"))'

check "renders for the whole cluster" render --set scope=cluster --set rbac.aggregate=true --set networkPolicy.enabled=true
check "cluster scope: the operator serves all namespaces" \
  objects '.kind == "Deployment" and (.spec.template.spec.containers[0].args | index("--all-namespaces"))'
check "cluster scope: leases stay in the release's namespace" \
  no_objects '.kind == "ClusterRole" and (.rules | any(.resources | index("leases")))'
check "aggregated roles leave the status to the operator" \
  no_objects '(.metadata.name | test("-(view|edit)$")) and (.rules // [] | any(.resources | index("alignmentrequests/status")))'
check "network policies for operator and aligner" objects '.kind == "NetworkPolicy" and .spec.egress == []'

check "renders with an existing claim, without resource definitions" \
  render --set staticData.existingClaim=brains --set crds.install=false --set operator.image.digest="sha256:$(printf '%064d' 0)"
check "existing claim: none is made" no_objects '.kind == "PersistentVolumeClaim"'
check "existing claim: the operator uses it" \
  objects '.kind == "Deployment" and (.spec.template.spec.containers[0].args | index("--static-data-claim=brains"))'
check "resource definitions can be left out" no_objects '.kind == "CustomResourceDefinition"'
check "a digest goes before the tag" \
  objects '.kind == "Deployment" and (.spec.template.spec.containers[0].image | test("operator@sha256:0{64}$"))'

check "renders with a pull secret" render --set 'imagePullSecrets[0].name=puller'
check "a pull secret reaches the operator's pod and the Jobs" objects '.kind == "Deployment"
  and .spec.template.spec.imagePullSecrets == [{"name": "puller"}]
  and (.spec.template.spec.containers[0].args | index("--image-pull-secret=puller"))'

check "renders with allowed origins" render --set 'allowedOrigins[0].origin=https://images.example.org' \
  --set 'allowedOrigins[1].origin=http://images.voluba.svc:8080,allowedOrigins[1].private=true'
check "allowed origins reach the operator" objects '.kind == "Deployment" and (.spec.template.spec.containers[0].args
  | index("--allow-origin=https://images.example.org") and index("--allow-private-origin=http://images.voluba.svc:8080"))'

for values in "$ROOT"/deploy/*/values*.yaml; do
  [ -f "$values" ] || continue
  check "renders with ${values#"$ROOT"/}" render --values "$values"
done

check "renders with a collector of traces" render --set operator.otlpEndpoint=http://collector.traces:4318,networkPolicy.enabled=true
check "the operator may reach its port" objects '.kind == "NetworkPolicy" and any(.spec.egress[].ports[]?; .port == 4318)'
check "a collector over TLS is refused" refused --set operator.otlpEndpoint=https://collector:4317
check "a misspelt value is refused" refused --set scpoe=cluster
check "a user number is refused" refused --set operator.podSecurityContext.runAsUser=1000
check "a template outside the claim is refused" refused --set 'templates[0].name=a,templates[0].path=../a'
check "an origin with a path is refused" refused --set 'allowedOrigins[0].origin=https://a.example/b'
check "two default templates are refused" refused \
  --set 'templates[0].name=a,templates[0].path=a,templates[0].default=true,templates[1].name=b,templates[1].path=b,templates[1].default=true'
check "two templates of one name are refused" refused \
  --set 'templates[0].name=a,templates[0].path=a,templates[1].name=a,templates[1].path=b'

# --- against the API server ---
kubectl create namespace voluba >/dev/null
kubectl label namespace voluba pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
install() { # release, helm options...
  helm upgrade --install "$1" "$CHART" --namespace voluba "${@:2}" > "$WORK/install.log" 2>&1 || { cat "$WORK/install.log"; return 1; }
}
may_answer() { # namespace verb resource[/subresource]
  local subresource=()
  [ "${3%/*}" = "$3" ] || subresource=(--subresource "${3#*/}")
  kubectl auth can-i --as system:serviceaccount:voluba:voluba-align -n "$1" "$2" "${3%/*}" "${subresource[@]}" 2>/dev/null || true
}
may() { [ "$(may_answer "$@")" = yes ]; }
may_not() { [ "$(may_answer "$@")" = no ]; }
installed_crd() { kubectl wait --for=condition=Established crd/alignmentrequests.voluba.ebrains.eu --timeout=20s >/dev/null; }

check "installs into a restricted namespace" install voluba-align --set 'templates[0].name=example,templates[0].path=a.nii.gz,templates[0].default=true'
no_warning() { ! grep -i warning "$WORK/install.log"; }
check "without a warning of the API server" no_warning
check "the notes print a request for the first template" grep -q 'template: example' "$WORK/install.log"
check "the resource definition is established" installed_crd
for right in "list alignmentrequests" "patch alignmentrequests/status" "create jobs" "get jobs" "patch jobs" "watch pods" \
  "get pods/log" "create events.events.k8s.io" "update leases"; do
  # shellcheck disable=SC2086
  check "the operator may $right" may voluba $right
done
for right in "get secrets" "create pods" "delete jobs" "get alignmentrequests" "delete alignmentrequests" "update alignmentrequests" "get pods" "get configmaps" "delete leases"; do
  # shellcheck disable=SC2086
  check "the operator may not $right" may_not voluba $right
done
check "the operator may do nothing elsewhere" may_not default list alignmentrequests
check "upgrades to the whole cluster" install voluba-align --set scope=cluster
check "cluster scope: the operator may create jobs elsewhere" may default create jobs
check "cluster scope: but no leases" may_not default update leases
check "is uninstalled" helm uninstall voluba-align --namespace voluba
check "and leaves the resource definition" installed_crd
check "and the claim with the static data" kubectl -n voluba get pvc voluba-align-static-data
check "installs again over what was kept" install voluba-align

# --- deploy/openshift: what a plain API server can say about it ---
openshift_part() { # file
  kubectl -n voluba apply --dry-run=server --validate=strict -f "$ROOT/deploy/openshift/$1" > "$WORK/part.log" 2>&1 \
    && ! grep -i warning "$WORK/part.log" || { cat "$WORK/part.log"; return 1; }
}
check "OpenShift: the kustomization can be built" kubectl kustomize "$ROOT/deploy/openshift"
check "OpenShift: the claims are valid" openshift_part claims.yaml
check "OpenShift: the loader pod is valid and restricted" openshift_part loader.yaml

summary chart
