# Sourced by dev/test-chart.sh: the chart under each set of values of ci/ and deploy/.
#
# A set says in comments at its head what must come out:
#   # some CONDITION      jq; an object fulfils it
#   # none CONDITION      no object does
#   # kinds KIND...       these are all kinds, sorted
VENV=$(need_python_venv chart "$ROOT/dev/chart/requirements.txt")
SETS=$WORK/sets
JQ='def args: .spec.template.spec.containers[0].args;
  def gateway: .kind == "Deployment" and .spec.selector.matchLabels["app.kubernetes.io/component"] == "gateway";
  def aligner_policy: .kind == "NetworkPolicy" and .metadata.name == "voluba-align-aligner";'

set_name() { local name=${1##*/}; name=${name%.yaml}; echo "${name%-values}"; }

# The manifests of a set, and the same as a stream of JSON. kubectl only converts here.
render() { # name, helm options...
  helm template "$RELEASE" "$CHART" --namespace voluba-ci --kube-version "$KUBE_VERSION" "${@:2}" > "$SETS/$1.yaml" || return 1
  kubectl create --dry-run=client --validate=ignore -o json -f "$SETS/$1.yaml" | jq -c 'if .kind == "List" then .items[] else . end' > "$SETS/$1.json"
}
any_object() { jq -s "$JQ [.[] | select($2)] | length > 0" "$SETS/$1.json"; }
some() { [ "$(any_object "$1" "$2")" = true ]; } # set, condition
none() { [ "$(any_object "$1" "$2")" = false ]; }
kinds() { diff <(jq -r .kind "$SETS/$1.json" | sort -u | xargs) <(echo "$2"); }
refused() { ! helm template voluba-align "$CHART" --kube-version "$KUBE_VERSION" "$@" >/dev/null 2>&1; }

expectations() { # name, file
  local how what count=0
  while read -r _ how what; do
    check "$1: $how $what" "$how" "$1" "$what"
    count=$((count + 1))
  done < <(grep -E '^# (some|none|kinds) ' "$2" || true)
  [ "$count" -gt 0 ] || [[ "$2" = */deploy/* ]] || check "$1: says what must come out" false
}

# What holds under any values.
always() { # name
  check "$1: nobody reads a secret" none "$1" '[.rules[]? | select(.resources // [] | index("secrets")) | .verbs[]] - ["create", "delete"] != []'
  check "$1: only the gateway makes some" none "$1" '([.rules[]? | .resources[]?] | index("secrets")) and (.metadata.name | endswith("-gateway") | not)'
  check "$1: no right is a wildcard" none "$1" '.rules // [] | any((.verbs + .resources + .apiGroups) | index("*"))'
  check "$1: no user or group number" none "$1" '.kind != "CustomResourceDefinition" and ([.. | objects | keys[] | select(test("^(runAs(User|Group)|fsGroup)$"))] | length > 0)'
  check "$1: nothing but namespaced objects, unless asked for" none "$1" '.metadata.namespace != "voluba-ci"
    and (.kind | IN("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding") | not)'
}
server_takes() { # name: without a warning, that of Pod Security included
  kubectl apply --server-side --dry-run=server --validate=strict -f "$SETS/$1.yaml" > "$WORK/server.log" 2>&1 || { cat "$WORK/server.log"; return 1; }
  no_warning "$WORK/server.log"
}

strict() { # files...
  "$VENV/bin/python" "$ROOT/dev/chart/strict.py" --version 1.33 --version 1.36 --crds "$ROOT/crds" "$DEFINITIONS" -- "$@"
}
finds_a_wrong_field() { # of a Deployment, of a custom resource
  sed 's/^  replicas:/  replicaz:/' "$SETS/default.yaml" > "$WORK/wrong.yaml"
  ! strict "$WORK/wrong.yaml" || return 1
  sed 's/^  - port: http/  - prot: http/' "$SETS/monitoring.yaml" > "$WORK/wrong.yaml"
  ! strict "$WORK/wrong.yaml"
}
finds_a_wrong_pod() {
  sed 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/' "$SETS/default.yaml" > "$WORK/wrong.yaml"
  ! "$VENV/bin/python" "$ROOT/dev/chart/scan.py" "$WORK/wrong.yaml" > "$WORK/scan.log" && grep -q 'CKV_K8S_22.*nothing explains' "$WORK/scan.log"
}

# The operator's tests compare these with its calls (tests/faults/economy.rs); they read _helpers.tpl.
rights_are_in_one_place() {
  diff <(cd "$CHART/templates" && grep -l 'verbs:' -r . | sort) <(printf '%s\n' ./_helpers.tpl ./aggregated-roles.yaml)
}
# Prometheus' own engine is built the first time: about two minutes of CPU.
alerts_speak() {
  need_go
  (cd "$ROOT/dev/promql" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -p=2" go test -count=1 ./...)
}

test_value_sets() {
  local file name count=0
  mkdir -p "$SETS"
  make_namespace voluba-ci
  check "README.md and the copy of crds/ are up to date" "$ROOT/dev/generate-chart.sh" --check
  check "the package has what chart-verifier asks for" package_is_complete
  check "the operator's rights are written in one place" rights_are_in_one_place
  check "alerts speak when they should, and the dashboard's queries can be read" alerts_speak
  for file in "$CHART"/ci/*-values.yaml "$ROOT"/deploy/*/values*.yaml; do
    name=$(set_name "$file")
    check "$name: lint finds nothing" helm lint --strict --quiet "$CHART" --values "$file"
    check "$name: renders" render "$name" --values "$file"
    expectations "$name" "$file"
    always "$name"
    check "$name: the API server takes all of it" server_takes "$name"
    count=$((count + 1))
  done
  printf 'figure chart-value-sets %d sets bar 12 %s\n' "$count" "$([ "$count" -ge 12 ] && echo ok || echo short)"
  check "strict schemas of Kubernetes 1.33 and 1.36: no fault in them and in the Jobs that the operator makes" \
    strict "$SETS"/*.yaml "$ROOT"/operator/tests/golden/*.yaml "$ROOT/examples/request.yaml"
  check "strict schemas find a misspelt field" finds_a_wrong_field
  check "checkov: no unexplained failure in them and in those Jobs" \
    "$VENV/bin/python" "$ROOT/dev/chart/scan.py" "$SETS"/*.yaml "$ROOT"/operator/tests/golden/*.yaml
  check "checkov finds a writable root" finds_a_wrong_pod
}

# What chart-verifier asks of every chart, of the package that would be published.
package_is_complete() {
  local package files file
  helm package "$CHART" --destination "$WORK" >/dev/null
  package=("$WORK"/voluba-align-*.tgz)
  files=$(tar -tzf "${package[0]}")
  for file in Chart.yaml README.md values.yaml values.schema.json templates/NOTES.txt templates/tests/operator-runs.yaml; do
    grep -qx "voluba-align/$file" <<< "$files" || { echo "no $file in the package"; return 1; }
  done
  ! grep -E '^voluba-align/(crds|ci)/' <<< "$files" || return 1
  helm show chart "${package[0]}" > "$WORK/chart.yaml"
  grep -qx 'apiVersion: v2' "$WORK/chart.yaml" && grep -q '^kubeVersion: ' "$WORK/chart.yaml" \
    && grep -q 'charts.openshift.io/name: ' "$WORK/chart.yaml"
}

fails_with() { echo "$1"; return 1; }

test_wrong_values() {
  local message
  if message=$("$VENV/bin/python" "$ROOT/dev/chart/typos.py" "$CHART" --kube-version "$KUBE_VERSION"); then
    check "every misspelt key is refused:$(tail -n 1 <<< "$message" | sed 's/^/ /')" true
  else
    check "every misspelt key is refused" fails_with "$message"
  fi
  check "a collector over TLS is refused" refused --set operator.otlpEndpoint=https://collector:4317
  check "a user number is refused" refused --set operator.podSecurityContext.runAsUser=1000
  check "a template outside the claim is refused" refused --set 'templates[0].name=a,templates[0].path=../a'
  check "an origin with a path is refused" refused --set 'allowedOrigins[0].origin=https://a.example/b'
  check "a page's origin that is a pattern is refused" refused --set 'gateway.corsOrigins[0]=https://*.example.org'
  check "a page that signs people in without a provider is refused" refused --set gateway.identity.oidc.clientId=page
  check "another answer about the unknown is refused" refused --set gateway.unknownRequest=pending
  check "more images than a request can have are refused" refused --set admissionPolicy.maxImages=17
  check "two default templates are refused" refused \
    --set 'templates[0].name=a,templates[0].path=a,templates[0].default=true,templates[1].name=b,templates[1].path=b,templates[1].default=true'
  local file='staticData.load.files[0].path=a,staticData.load.files[0].bytes=1'
  local sum="staticData.load.files[0].sha256"
  check "a file to load without a digest is refused" refused --set "$file,staticData.load.files[0].source=/source/a"
  check "a source that is neither URL nor path is refused" refused --set "$file,staticData.load.files[0].source=ftp://h/a" --set-string "$sum=$(printf '%064d' 1)"
  check "another digest than that of the file that is loaded is refused" refused --set "$file,staticData.load.files[0].source=/source/a" \
    --set-string "$sum=$(printf '%064d' 1),templates[0].name=a,templates[0].path=current/a,templates[0].sha256=$(printf '%064d' 2)"
  check "two templates of one name are refused" refused \
    --set 'templates[0].name=a,templates[0].path=a,templates[1].name=a,templates[1].path=b'
}
