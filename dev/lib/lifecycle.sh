# Sourced by the node test: what happens to pods while they compute. Every request is the example with so
# little CPU that there is time to interfere; all but one must end with the example's files.

EXAMPLE_FILE=$ROOT/examples/request.yaml

slow_request() { # name, jq filter of further changes
  kubectl annotate --local -f "$EXAMPLE_FILE" voluba-align/read=true -o json \
    | jq --arg name "$1" "del(.metadata.annotations) | .metadata.name = \$name
        | .spec.output.destination.volume.path = \$name | .spec.resources.cpu = \"100m\" | ${2:-.}" \
    | kubectl -n "$NAMESPACE" apply -f -
}

pods_of() { kubectl -n "$NAMESPACE" get pods -l "voluba.ebrains.eu/request=$1" -o json; } # request
first_pod() { pods_of "$1" | jq -r '.items | sort_by(.metadata.creationTimestamp)[0].metadata.name // ""'; }
is_in_phase() { [ "$(phase "$1")" = "$2" ]; }
has_node() { pods_of "$1" | jq -e --arg node "$2" 'any(.items[]; .spec.nodeName == $node)' >/dev/null; }
# Every state of every request is recorded, as a run may be over before anybody asks.
record_requests() {
  kubectl -n "$NAMESPACE" get alignmentrequests -o json --watch > "$WORK/requests" 2>/dev/null &
  request_watch=$!
}
showed_progress() { # request
  jq -s -e --arg name "$1" 'any(.[] | select(.metadata.name == $name).status;
    .phase == "Running" and .progress.percent > 0 and .progress.percent < 100 and (.progress.stage | length > 0))' \
    "$WORK/requests" >/dev/null
}

within() { # seconds, command...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || { echo "waited in vain for: $*"; kubectl -n "$NAMESPACE" get alignmentrequest,pods; return 1; }
    sleep 0.2
  done
}

# SIGTERM to the pod of a request, once it computes.
stop_pod() { # request
  within 60 is_in_phase "$1" Running && kubectl -n "$NAMESPACE" delete pod "$(first_pod "$1")" --wait=false
}
evict_pod() { # request
  local pod
  within 60 is_in_phase "$1" Running || return 1
  pod=$(first_pod "$1")
  jq -n --arg pod "$pod" --arg namespace "$NAMESPACE" \
    '{apiVersion: "policy/v1", kind: "Eviction", metadata: {name: $pod, namespace: $namespace}}' \
    | kubectl create --raw "/api/v1/namespaces/$NAMESPACE/pods/$pod/eviction" -f -
}
# The kernel ends a process that takes more than its cgroup may have. The aligner looks at the limit before
# it begins; here the limit falls afterwards.
starve_pod() { # request
  local uid folder file usage
  within 60 is_in_phase "$1" Running || return 1
  uid=$(pods_of "$1" | jq -r '.items[0].metadata.uid')
  folder=$(find /sys/fs/cgroup -type d \( -name "*pod$uid*" -o -name "*pod${uid//-/_}*" \) 2>/dev/null \
    | while read -r found; do [ ! -e "$found/memory.max" ] && [ ! -e "$found/memory.limit_in_bytes" ] || { echo "$found"; break; }; done)
  [ -n "$folder" ] || { echo "no memory cgroup of pod $uid"; return 1; }
  # The container's process is in a cgroup below the pod's.
  # It may have little more than it has; the pod's other process, which only waits, never needs more.
  for file in "$folder"/*/memory.max "$folder"/*/memory.limit_in_bytes; do
    [ -e "$file" ] || continue
    usage=$(cat "${file%/*}"/memory.current "${file%/*}"/memory.usage_in_bytes 2>/dev/null || true)
    echo $((usage + (2 << 20))) > "$file" || return 1
  done
}

# A second node that exists in the API only: pods are bound to it, and nothing ever runs them.
make_lost_node() {
  kubectl create -f - <<'NODE' && kubectl patch node lost --subresource=status --type=merge -p '{"status": {
    "capacity": {"cpu": "8", "memory": "8Gi", "pods": "9"}, "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "9"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}}'
{apiVersion: v1, kind: Node, metadata: {name: lost}}
NODE
}
real_node() { kubectl get nodes -o name | grep -v '^node/lost$' | head -n 1; }
lose_node() { # request
  local real
  real=$(real_node)
  kubectl cordon "${real#node/}" && make_lost_node && slow_request "$1" && within 60 has_node "$1" lost
  local status=$?
  kubectl uncordon "${real#node/}" && kubectl delete node lost --wait=false && return "$status"
}

same_volumes() { # folder, other folder: all but the reports, which name the request
  local file count=0
  for file in "$1"/*.nii.gz; do
    cmp "$file" "$2/${file##*/}" || return 1
    count=$((count + 1))
  done
  [ "$count" -gt 0 ] || { echo "no volumes in $1"; return 1; }
  ! find "$2" -name '.*' -type f | grep . || { echo "temporary files are left"; return 1; }
}

ended_well() { # request, pods, attempts
  local name=$1
  check "$name: succeeds all the same" ends_as "$name" Succeeded
  check "$name: $2 pods, $3 attempt(s)" was_made_of "$name" "$2" "$3"
  check "$name: the files are the example's, byte by byte" \
    same_volumes "$(local_outputs "$EXAMPLE_FILE")" "$(claim_folder results)/$name"
}
was_made_of() { # request, pods, attempts
  pods_were "$1" "$2" && is "$3" "$(kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o jsonpath='{.status.attempts}')"
}

progressing_is() { # request, reason
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json \
    | jq -e --arg reason "$2" '[.status.conditions[]? | select(.type == "Progressing")][0].reason == $reason' >/dev/null
}
# An image that is not there: the request says so within a minute.
test_missing_image() {
  check "no-image: the installation names an image that is not there" install_chart --set aligner.image.tag=missing --timeout 60s
  check "no-image: the operator is ready" operator_ready
  check "no-image: is accepted" slow_request no-image
  check "no-image: told within a minute" within 60 progressing_is no-image ImagePullFailed
  check "no-image: deleted" delete_request no-image
  check "no-image: nothing is left" gone_within no-image 90
}

test_lifecycle() {
  local name
  record_requests
  check "lost-node: its pod is bound to a node that is lost" lose_node lost-node
  for name in stopped evicted starved; do check "$name: is accepted" slow_request "$name"; done
  check "late: is accepted" slow_request late '.spec.activeDeadlineSeconds = 4 | .spec.resources.cpu = "20m"'
  check "starved: the kernel's limit falls" starve_pod starved
  check "stopped: its pod gets SIGTERM" stop_pod stopped
  check "evicted: its pod is evicted" evict_pod evicted
  check "late: ends as Failed" ends_as late Failed
  check "late: reason DeadlineExceeded" is DeadlineExceeded "$(reason late)"
  ended_well stopped 2 1
  check "stopped: progress was shown while it computed" within 10 showed_progress stopped
  ended_well evicted 2 1
  ended_well starved 2 2
  ended_well lost-node 2 1
  for name in late stopped evicted starved lost-node; do check "$name: deleted" delete_request "$name"; done
  kill "$request_watch" && request_watch=
}
