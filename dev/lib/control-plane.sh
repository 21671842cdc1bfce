# Sourced after cluster.sh: etcd, kube-apiserver, kube-controller-manager and kube-scheduler.
# Needs no privilege. Extra flags: VOLUBA_ETCD_FLAGS, VOLUBA_APISERVER_FLAGS,
# VOLUBA_CONTROLLER_MANAGER_FLAGS, VOLUBA_SCHEDULER_FLAGS (split at spaces). VOLUBA_SCHEDULER=off: none.

start_etcd() {
  # --unsafe-no-fsync: a test cluster outlives no power cut, and disks under CI are slow.
  # shellcheck disable=SC2086
  start etcd etcd --name "$INSTANCE" --data-dir "$CLUSTER/etcd" \
    --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
    --initial-advertise-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
    --initial-cluster "$INSTANCE=http://127.0.0.1:$ETCD_PEER_PORT" --unsafe-no-fsync ${VOLUBA_ETCD_FLAGS:-}
}

start_apiserver() {
  # --endpoint-reconciler-type=none and --advertise-address: a machine without a default route works.
  # --kubelet-preferred-address-types: an address of the node may not be a loopback one, its name may.
  # shellcheck disable=SC2086
  start kube-apiserver "$BIN/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
    --bind-address="$API_BIND" --secure-port="$API_PORT" --advertise-address="$API_ADVERTISE" \
    --endpoint-reconciler-type=none --service-cluster-ip-range="$SERVICE_NETWORK.0/24" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$PKI/sa.pub" \
    --service-account-signing-key-file="$PKI/sa.key" \
    --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key" \
    --kubelet-preferred-address-types=Hostname --profiling=false ${VOLUBA_APISERVER_FLAGS:-}
}

start_controllers() {
  # The default of 20 requests per second would be the slowest part of any test with many Jobs.
  # shellcheck disable=SC2086
  start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$PKI/controller-manager.kubeconfig" \
    --leader-elect=false --bind-address=127.0.0.1 --secure-port="$CONTROLLER_MANAGER_PORT" \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
    --use-service-account-credentials=true --cluster-signing-cert-file="$PKI/ca.crt" \
    --cluster-signing-key-file="$PKI/ca.key" --kube-api-qps=200 --kube-api-burst=400 --profiling=false \
    ${VOLUBA_CONTROLLER_MANAGER_FLAGS:-}
  [ "${VOLUBA_SCHEDULER:-on}" = on ] || return 0
  # shellcheck disable=SC2086
  start kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$PKI/scheduler.kubeconfig" --leader-elect=false \
    --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --profiling=false ${VOLUBA_SCHEDULER_FLAGS:-}
}

control_plane_up() {
  start_etcd
  wait_for etcd 30 curl --silent --fail --noproxy '*' "http://127.0.0.1:$ETCD_PORT/health"
  step "etcd healthy"
  start_apiserver
  wait_for kube-apiserver 120 admin get --raw /readyz
  step "kube-apiserver ready"
  start_controllers
  # Pods are refused until this account exists; it also shows that the controllers work.
  wait_for kube-controller-manager 120 admin -n default get serviceaccount default
  step "controllers work"
}

control_plane_down() {
  local name
  for name in kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$name"; done
}
