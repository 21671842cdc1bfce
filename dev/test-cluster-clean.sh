#!/usr/bin/env bash
# Tests that cluster-up.sh can be repeated, repairs a dead component, gives pods the API server, and
# that cluster-down.sh leaves nothing on the machine, even when the cluster is cut off in the middle.
# Uses its own instance. Prints "cluster: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
export VOLUBA_CLUSTER_PORT_BASE=${VOLUBA_CLUSTER_PORT_BASE:-18448}
VOLUBA_CLUSTER_DIR=${VOLUBA_CLUSTER_DIR:-$(mktemp -u "${XDG_STATE_HOME:-$HOME/.local/state}/voluba-align/test.XXXXXX")}
export VOLUBA_CLUSTER_DIR
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/node.sh"
. "$(dirname "$0")/lib/check.sh"
. "$(dirname "$0")/lib/snapshot.sh"

check_node_possible
need_command ip iproute2
WORK=$(mktemp -d)
# shellcheck disable=SC2317  # called by the trap
finish() {
  "$ROOT/dev/cluster-down.sh" >/dev/null 2>&1 || true
  rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

up() { "$ROOT/dev/cluster-up.sh" > "$WORK/up.out"; }
as_before() {
  machine_snapshot "$CLUSTER" "$INSTANCE" > "$WORK/now"
  diff "$WORK/before" "$WORK/now"
}
pids() { for name in etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet; do echo "$name $(cat "$RUN/$name.pid")"; done; }

# A program with a network client and server is at hand: kubectl.
write_pods() {
  cat > "$WORK/pods.yaml" <<PODS
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: default}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: kubectl
    image: localhost/voluba-align/kubectl:test
    args: [--cache-dir=/tmp/none, version]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: default}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: kubectl
    image: localhost/voluba-align/kubectl:test
    args: [proxy, --address=0.0.0.0, --port=8080, --accept-hosts=.*]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
PODS
}
pods_run() {
  "$ROOT/dev/lib/oci_image.py" "$WORK/kubectl.tar" localhost/voluba-align/kubectl:test "$BIN/kubectl=/kubectl"
  "$ROOT/dev/import-images.sh" "$WORK/kubectl.tar" 2>/dev/null
  write_pods
  admin apply -f "$WORK/pods.yaml"
  admin wait --for=jsonpath='{.status.phase}'=Succeeded pod/client --timeout=60s
}
client_reached_server() { admin logs client | grep 'Server Version'; }
probe_reaches_pod() { admin wait --for=condition=Ready pod/server --timeout=60s; }
unreachable_from_machine() {
  local address
  if ip route show | grep -F "$POD_NETWORK."; then return 1; fi
  address=$(admin get pod server -o jsonpath='{.status.podIP}')
  [ -n "$address" ] && ! curl --silent --fail --noproxy '*' --max-time 2 "http://$address:8080/healthz"
}
restarted_kubelet() {
  kill -KILL "$(pgrep -f -- "--root-dir=$NODE/kubelet")"
  sleep 0.5
  up
  [ "$(pids | grep -v kubelet)" = "$(grep -v kubelet "$WORK/pids")" ] && [ "$(pids)" != "$(cat "$WORK/pids")" ]
}
same_processes() { [ "$(pids)" = "$(cat "$WORK/pids")" ]; }
cut_off() {
  "$ROOT/dev/cluster-up.sh" > "$WORK/up.out" 2>&1 &
  local process=$!
  sleep "$1"
  kill -KILL "$process"
  wait "$process" 2>/dev/null || true
}
no_node_up() { "$ROOT/dev/cluster-up.sh" --no-node; }
mode_is_guarded() { ! "$ROOT/dev/cluster-up.sh" --no-node 2>&1; }

BIN=$("$ROOT/dev/build-kubernetes.sh")
machine_snapshot "$CLUSTER" "$INSTANCE" > "$WORK/before"
check "starts" up
set_mode node
pids > "$WORK/pids"
check "prints the line that sets KUBECONFIG" grep -q '^export KUBECONFIG=' "$WORK/up.out"
check "starts again and changes nothing" up
check "the processes are the same" same_processes
check "a running node is not taken for a control plane" mode_is_guarded
check "pods run" pods_run
check "a pod reaches the API server through its service" client_reached_server
check "the kubelet's probes reach a pod" probe_reaches_pod
check "the machine does not reach the pod" unreachable_from_machine
check "a killed kubelet is started again, nothing else" restarted_kubelet
check "goes down with pods running" "$ROOT/dev/cluster-down.sh"
check "and leaves nothing" as_before
check "going down twice is fine" "$ROOT/dev/cluster-down.sh"
for seconds in 0.5 1.5 3; do
  cut_off "$seconds"
  check "cut off after $seconds s: goes down" "$ROOT/dev/cluster-down.sh"
  check "cut off after $seconds s: leaves nothing" as_before
done
check "starts without a node" no_node_up
check "goes down without a node" "$ROOT/dev/cluster-down.sh"
check "and leaves nothing without a node" as_before
summary cluster
