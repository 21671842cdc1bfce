#!/usr/bin/env bash
# The whole way on a real cluster: images, chart, request, result. Compares the result byte by byte with
# that of `make run`, which needs no cluster. Leaves the cluster running; dev/cluster-down.sh ends it.
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/node.sh"
. "$(dirname "$0")/lib/example.sh"

REQUEST=$ROOT/examples/request.yaml
[ -f "$REQUEST" ] || die "examples/request.yaml is missing"
need_command jq jq
BIN=$("$ROOT/dev/build-kubernetes.sh")

DEMO_START=$(microseconds)
"$ROOT/dev/cluster-up.sh" >/dev/null
eval "$("$ROOT/dev/cluster-env.sh")"
STEP_START=$(microseconds)
"$ROOT/dev/build-images.sh"
step "images built"
"$ROOT/dev/import-images.sh"
STEP_START=$(microseconds)

prepare_namespace
load_example
step "namespace $NAMESPACE (Pod Security: restricted) with claims static-data, patches, results"
install_chart --timeout 60s >/dev/null
operator_ready
step "chart installed, operator ready"

name=$(request_name "$REQUEST")
kubectl -n "$NAMESPACE" delete alignmentrequest "$name" --ignore-not-found --wait >/dev/null
outputs=$(claim_folder results)/$(output_path "$REQUEST")
find "$(claim_folder results)" -mindepth 1 -delete
STEP_START=$(microseconds)
kubectl -n "$NAMESPACE" apply -f "$REQUEST"
kubectl -n "$NAMESPACE" get alignmentrequests --watch &
watch=$!
trap 'kill "$watch" 2>/dev/null || true' EXIT
ended=$(ended_phase "$name" 900) || { kubectl -n "$NAMESPACE" get jobs,pods >&2; die "the request did not end: $ended"; }
sleep 0.5
kill "$watch" 2>/dev/null || true
step "request ended: $ended"
if [ "$ended" != Succeeded ]; then
  kubectl -n "$NAMESPACE" get alignmentrequest "$name" -o yaml >&2
  die "the request ended as $ended: $(reason "$name")"
fi
kubectl -n "$NAMESPACE" get alignmentrequest "$name" -o json | jq '.status.result.quality // .status.result' >&2

compute_local_outputs
expected=$(local_outputs "$REQUEST")
STEP_START=$(microseconds)
same=$(same_outputs "$expected" "$outputs") || { printf '%s\n' "$same" >&2; die "the cluster's result differs from that of make run"; }
step "$same as those of make run, byte by byte"

kubectl -n "$NAMESPACE" delete alignmentrequest "$name" >/dev/null
gone_within "$name" 90 >&2 || die "the deleted request left a Job or a pod"
step "request deleted; no Job and no pod is left"
STEP_START=$DEMO_START
step "in total"
say "results: $outputs"
say "look around:  eval \"\$(dev/cluster-env.sh)\"; kubectl -n $NAMESPACE get all"
say "end the cluster:  dev/cluster-down.sh"
