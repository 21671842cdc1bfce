#!/usr/bin/env bash
# The node test: real images, the chart installed as a user would, real pods. The previous chart upgraded while a
# request computes, static data loaded by the Job, removal and another installation; the gateway, called as the front
# end does, with an image service beside it; then the example request and the wrong ones of examples/wrong, each of which says in a comment how it must end:
#   # expect: phase=Failed reason=ImageNotFound pods=1
#   # expect: refused            (by the API server, on creation)
# Uses its own instance of the cluster and removes it. Prints "node: N passed, M failed".
# Needs root; VOLUBA_SKIP_NODE=1 skips it openly. VOLUBA_NODE_TIMEOUT: seconds that a request may take (300).
# VOLUBA_KEEP_CLUSTER=1 leaves the cluster for a look at it.
. "$(dirname "$0")/lib/common.sh"
if [ "${VOLUBA_SKIP_NODE:-}" = 1 ]; then
  say "the node test is SKIPPED because VOLUBA_SKIP_NODE=1"
  echo "node: 0 passed, 0 failed, all skipped"
  exit 0
fi
[ "$(id -u)" = 0 ] || die "the node test needs root (real pods need namespaces, mounts and cgroups): run as root, or set VOLUBA_SKIP_NODE=1 to leave it out"
export VOLUBA_CLUSTER_PORT_BASE=${VOLUBA_CLUSTER_PORT_BASE:-18456}
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/voluba-align
mkdir -p "$STATE"
VOLUBA_CLUSTER_DIR=${VOLUBA_CLUSTER_DIR:-$(mktemp -u "$STATE/node-test.XXXXXX")}
export VOLUBA_CLUSTER_DIR
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/node.sh"
. "$(dirname "$0")/lib/example.sh"
. "$(dirname "$0")/lib/lifecycle.sh"
. "$(dirname "$0")/lib/delivery.sh"
. "$(dirname "$0")/lib/gateway.sh"
. "$(dirname "$0")/lib/check.sh"
. "$(dirname "$0")/lib/snapshot.sh"
need_command jq jq
BIN=$("$ROOT/dev/build-kubernetes.sh")
need_command ip iproute2

WORK=$(mktemp -d)
# shellcheck disable=SC2317  # called by the trap
finish() {
  for watch in "${pod_watch:-}" "${request_watch:-}" "${image_service:-}"; do [ -z "$watch" ] || kill "$watch" 2>/dev/null || true; done
  if [ -n "${VOLUBA_KEEP_CLUSTER:-}" ]; then
    say "the cluster is kept: VOLUBA_CLUSTER_DIR=$CLUSTER VOLUBA_CLUSTER_PORT_BASE=$PORT_BASE dev/cluster-down.sh ends it"
  else
    "$ROOT/dev/cluster-down.sh" >/dev/null 2>&1 || true
  fi
  rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- what is checked ------------------------------------------------------------------------------

expectation() { sed -n 's/^# expect: *//p' "$1" | head -n 1; } # file
expected() { # file, phase | reason | pods
  expectation "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"
}

apply() { kubectl -n "$NAMESPACE" apply -f "$1"; }
is() { [ "$1" = "$2" ] || { echo "expected '$1', found '$2'"; return 1; }; }
ends_as() { # request name, phase
  local found
  found=$(ended_phase "$1" "${VOLUBA_NODE_TIMEOUT:-300}") || { kubectl -n "$NAMESPACE" get alignmentrequest,job,pod; echo "$found"; return 1; }
  is "$2" "$found" || { kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o yaml; return 1; }
}
reason_is() { is "$2" "$(reason "$1")"; }
pods_were() { # request name, number of pods that were ever made for it
  local found
  found=$(awk -v request="$1" '$NF == request { print $1 }' "$WORK/pods" | sort -u)
  is "$2" "$(printf '%s' "$found" | grep -c . || true)"
}
says_why() { # request name
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json | jq -e '
    (.status.failure.message // ([.status.conditions[]? | select(.type == "Failed" or .type == "Accepted")][0].message) // "") | length > 10'
}
refused() { ! kubectl -n "$NAMESPACE" apply -f "$1"; }
status_has_result() {
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json | jq -e '.status.result | .quality and (.artifacts | length > 0)'
}
delete_request() { kubectl -n "$NAMESPACE" delete alignmentrequest "$1" --timeout=30s; }
outputs_stay() { [ -n "$(find "$(claim_folder results)/$(output_path "$1")" -type f)" ]; }
operator_pod() { kubectl -n "$NAMESPACE" get pods -l app.kubernetes.io/component=operator -o json; }
operator_never_restarted() {
  is 0 "$(operator_pod | jq '[.items[].status.containerStatuses[]?.restartCount] | add')"
}
operator_was_allowed() { # nothing was forbidden to it: its role has all it needs
  ! kubectl -n "$NAMESPACE" logs "deployment/$RELEASE" | grep -i -m 5 forbidden
}
helm_test() { helm test "$RELEASE" --namespace "$NAMESPACE" --timeout 60s; }
as_before() {
  machine_snapshot "$CLUSTER" "$INSTANCE" > "$WORK/now"
  diff "$WORK/before" "$WORK/now"
}

test_example() { # file
  local name
  name=$(request_name "$1")
  check "the example is accepted" apply "$1"
  check "the example succeeds" ends_as "$name" Succeeded
  check "the example needed one pod" pods_were "$name" 1
  check "the example's status holds the result" status_has_result "$name"
  check "the example's files are those of make run, byte by byte" \
    same_outputs "$(local_outputs "$1")" "$(claim_folder results)/$(output_path "$1")"
  check "the example is deleted" delete_request "$name"
  check "its Job and its pod go" gone_within "$name" 90
  check "its files stay" outputs_stay "$1"
}

test_wrong() { # file, already applied unless it must be refused
  local name label=${1##*/}
  name=$(request_name "$1")
  label=${label%.yaml}
  if [[ "$(expectation "$1")" = refused* ]]; then
    check "$label: refused on creation" refused "$1"
    return 0
  fi
  check "$label: ends as $(expected "$1" phase)" ends_as "$name" "$(expected "$1" phase)"
  check "$label: reason $(expected "$1" reason)" reason_is "$name" "$(expected "$1" reason)"
  check "$label: says why" says_why "$name"
  check "$label: $(expected "$1" pods) pod(s) made" pods_were "$name" "$(expected "$1" pods)"
  check "$label: deleted" delete_request "$name"
  check "$label: no Job and no pod is left" gone_within "$name" 90
}

# --- the test -------------------------------------------------------------------------------------

START=$(microseconds)
for file in "$ROOT"/examples/wrong/*.yaml; do
  [ -f "$file" ] || die "no examples/wrong/*.yaml"
  [ -n "$(expectation "$file")" ] || die "${file#"$ROOT"/} has no line '# expect: …' that says how it must end"
done
[ -f "$ROOT/examples/request.yaml" ] || die "examples/request.yaml is missing"
"$ROOT/dev/build-images.sh"
compute_local_outputs

machine_snapshot "$CLUSTER" "$INSTANCE" > "$WORK/before"
"$ROOT/dev/cluster-up.sh" >/dev/null
eval "$("$ROOT/dev/cluster-env.sh")"
"$ROOT/dev/import-images.sh"
STEP_START=$(microseconds)
prepare_namespace
load_example
kubectl -n "$NAMESPACE" get pods --label-columns voluba.ebrains.eu/request --no-headers --watch > "$WORK/pods" 2>/dev/null &
pod_watch=$!
test_delivery
step "upgrade, loader and removal done"
check "the chart is installed in a namespace with Pod Security restricted" install_chart --timeout 60s
check "the operator becomes ready" operator_ready
check "helm test passes" helm_test
step "operator ready"

for file in "$ROOT"/examples/wrong/*.yaml; do
  [[ "$(expectation "$file")" = refused* ]] || check "$(basename "$file" .yaml): is taken by the API server" apply "$file"
done
test_example "$ROOT/examples/request.yaml"
step "example done"
test_gateway
step "gateway done"
for file in "$ROOT"/examples/wrong/*.yaml; do test_wrong "$file"; done
step "wrong requests done"
test_lifecycle
# The next part installs another one.
check "the operator was never restarted meanwhile" operator_never_restarted
step "interrupted requests done"
test_missing_image
step "missing image told"

check "the operator was never restarted" operator_never_restarted
check "the operator was never forbidden anything" operator_was_allowed
kill "$pod_watch" 2>/dev/null || true
pod_watch=
if [ "$FAILED" != 0 ]; then
  kubectl -n "$NAMESPACE" logs --tail 40 "deployment/$RELEASE" >&2 || true
fi
if [ -z "${VOLUBA_KEEP_CLUSTER:-}" ]; then
  check "the cluster goes down" "$ROOT/dev/cluster-down.sh"
  check "and leaves nothing" as_before
fi
STEP_START=$START
step "node test in total"
summary node
