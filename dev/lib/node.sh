# Sourced after cluster.sh: the node, that is containerd and kubelet, on Linux and as root.
#
# The whole instance runs in its own mount, PID and network namespaces under one init process (pause).
# Ending that process ends everything: pods, shims, mounts, the bridge and the addresses go with the
# namespaces, whatever state they were in. On the machine itself there are only the folder of the
# instance, a cgroup, one end of a veth pair, and some empty folders, all removed by node_down.

# Folders at fixed places that containerd and kubelet write to; private ones are mounted over them.
FIXED_FOLDERS=(/run/containerd /var/lib/kubelet /var/lib/cni /var/log/containers)
# Settings of the whole machine that the kubelet overwrites; it gets plain files instead.
SHIELDED_SYSCTLS=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

init_pid() { component_pid init; }

inside() { # command...: runs in the namespaces of the instance
  local pid
  pid=$(init_pid) || die "the node's init process does not run"
  nsenter --target "$pid" --mount --net --pid -- "$@"
}

check_node_possible() {
  [ "$(uname -s)" = Linux ] || die "a node needs Linux; cluster-up.sh --no-node does not"
  [ "$(id -u)" = 0 ] || die "a node needs root (namespaces, mounts, cgroups): run as root, or cluster-up.sh --no-node"
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null \
    || die "the kernel offers no overlay filesystem, which containers need"
  unshare --mount --net --pid --fork true 2>/dev/null \
    || die "this machine forbids new namespaces even to root (unshare failed); cluster-up.sh --no-node needs none"
  [ -d /sys/fs/cgroup/memory ] || [ -f /sys/fs/cgroup/cgroup.controllers ] \
    || die "no cgroup hierarchy with a memory controller is mounted at /sys/fs/cgroup"
}

# --- on the machine -------------------------------------------------------------------------------

cgroup_folders() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$INSTANCE"
  else
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do
      [ ! -f "$hierarchy/cgroup.procs" ] || [ -L "${hierarchy%/}" ] || echo "$hierarchy$INSTANCE"
    done
  fi
}

make_cgroups() {
  local folder
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    delegate_controllers /sys/fs/cgroup
  fi
  for folder in $(cgroup_folders); do
    mkdir -p "$folder"
    # v1: an empty cpuset takes no process.
    if [ -f "$folder/cpuset.cpus" ] && [ -f "${folder%/*}/cpuset.cpus" ] && [ ! -f "$folder/cgroup.controllers" ]; then
      cat "${folder%/*}/cpuset.cpus" > "$folder/cpuset.cpus"
      cat "${folder%/*}/cpuset.mems" > "$folder/cpuset.mems"
    fi
    # v2: the kubelet hands controllers on only below its root.
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then delegate_controllers "$folder"; fi
  done
}

delegate_controllers() { # cgroup v2 folder
  local controller
  for controller in cpuset cpu io memory pids hugetlb; do
    ! grep -qw "$controller" "$1/cgroup.controllers" \
      || echo "+$controller" > "$1/cgroup.subtree_control" 2>/dev/null || true
  done
}

remove_cgroups() {
  local folder _
  for folder in $(cgroup_folders); do
    [ -d "$folder" ] || continue
    for _ in $(seq 1 50); do
      find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null || true
      [ -d "$folder" ] || break
      sleep 0.1
    done
    [ ! -d "$folder" ] || say "could not remove the cgroup $folder"
  done
}

# Mount points for the private folders; the ones that were missing are noted and removed at the end.
make_mount_points() {
  local folder parent
  for folder in "${FIXED_FOLDERS[@]}"; do
    parent=$folder
    while [ ! -d "$parent" ]; do
      echo "$parent" >> "$NODE/made-folders"
      parent=${parent%/*}
    done
    mkdir -p "$folder"
  done
}

remove_mount_points() {
  local folder
  [ -f "$NODE/made-folders" ] || return 0
  # Longer names first; a folder that something else uses by now is not empty and stays.
  sort -r "$NODE/made-folders" | while read -r folder; do rmdir "$folder" 2>/dev/null || true; done
}

# Between the two programs of the first process its command line is empty, and nobody knows it again.
init_has_become_pause() {
  [ -f "$NODE/init-ready" ] && [ "/proc/$(cat "$RUN/init.pid")/exe" -ef "$(pause_program)" ]
}

namespaces_up() {
  init_pid >/dev/null && return 0
  mkdir -p "$NODE"
  make_mount_points
  make_cgroups
  rm -f "$RUN/init.pid" "$NODE/init-ready"
  start namespaces unshare --mount --net --pid --fork --kill-child "$ROOT/dev/lib/node-init.sh" "$CLUSTER"
  wait_for namespaces 20 init_has_become_pause
  ip link add "$INSTANCE" type veth peer name uplink netns "$(init_pid)"
  ip address add "$LINK_NETWORK.1/30" dev "$INSTANCE"
  ip link set "$INSTANCE" up
  inside ip address add "$LINK_NETWORK.2/30" dev uplink
  inside ip link set uplink up
  step "namespaces, bridge and cgroups made"
}

node_down() {
  local pid _
  # First, so that a start that was cut off does not go on.
  ! pid=$(component_pid namespaces) || kill -KILL "$pid" 2>/dev/null || true
  if pid=$(init_pid); then
    kill -KILL "$pid" 2>/dev/null || true
    for _ in $(seq 1 100); do
      init_pid >/dev/null || break
      sleep 0.1
    done
    ! init_pid >/dev/null || die "the node's init process $pid does not end"
  fi
  ip link delete "$INSTANCE" 2>/dev/null || true
  remove_cgroups
  remove_mount_points
}

# --- in the namespaces ----------------------------------------------------------------------------

write_containerd_config() {
  # restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE may not protect the sandbox, and the
  # sandbox would fail with "can't get final child's PID from pipe". disable_apparmor: no profile is loaded.
  cat > "$NODE/containerd.toml" <<CONFIG
version = 2
root = "$NODE/containerd/root"
state = "$NODE/containerd/state"
[grpc]
  address = "$NODE/containerd.sock"
[ttrpc]
  address = "$NODE/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/voluba-align/pause:1"
  stream_server_address = "127.0.0.1"
  enable_selinux = false
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "$(command -v runc)"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$CNI_PLUGINS"
    conf_dir = "$NODE/cni"
CONFIG
  # Pods get a route to the service network only: the API server, and nothing beyond this namespace.
  mkdir -p "$NODE/cni"
  cat > "$NODE/cni/10-voluba.conflist" <<CONFIG
{"cniVersion": "0.4.0", "name": "$INSTANCE", "plugins": [{
  "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false,
  "ipam": {"type": "host-local", "subnet": "$POD_NETWORK.0/24", "dataDir": "$NODE/ipam",
           "routes": [{"dst": "$SERVICE_NETWORK.0/24"}]}}]}
CONFIG
}

write_kubelet_config() {
  printf 'nameserver 127.0.0.1\n' > "$NODE/resolv.conf"
  cat > "$NODE/kubelet.yaml" <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: $KUBELET_PORT
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: $KUBELET_HEALTH_PORT
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
rotateCertificates: false
containerRuntimeEndpoint: unix://$NODE/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$INSTANCE
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
clusterDomain: cluster.local
clusterDNS: [$SERVICE_NETWORK.10]
resolvConf: $NODE/resolv.conf
podLogsDir: $NODE/pod-logs
volumePluginDir: $NODE/volume-plugins
evictionHard: {memory.available: 200Mi, nodefs.available: 2%, imagefs.available: 2%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 1000h
nodeStatusUpdateFrequency: 5s
maxPods: 50
CONFIG
}

containerd_up() {
  CNI_PLUGINS=$(cni_plugins)
  write_containerd_config
  start containerd containerd -c "$NODE/containerd.toml"
  wait_for containerd 60 ctr --address "$NODE/containerd.sock" version
  step "containerd works"
}

kubelet_up() {
  write_kubelet_config
  # shellcheck disable=SC2086
  start kubelet "$BIN/kubelet" --kubeconfig="$PKI/kubelet.kubeconfig" --config="$NODE/kubelet.yaml" \
    --root-dir="$NODE/kubelet" --cert-dir="$NODE/kubelet-certificates" --hostname-override="$NODE_NAME" \
    --node-ip="$POD_NETWORK.1" ${VOLUBA_KUBELET_FLAGS:-}
  wait_for kubelet 120 admin wait --for=condition=Ready "node/$NODE_NAME" --timeout=1s
  step "node Ready"
}

cni_plugins() {
  local folder
  for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    [ ! -x "$folder/bridge" ] || [ ! -x "$folder/host-local" ] || { echo "$folder"; return 0; }
  done
  die "CNI plugins bridge and host-local not found (Debian: containernetworking-plugins)"
}

import_image() { # archive
  ctr --address "$NODE/containerd.sock" --namespace k8s.io images import "$1" >/dev/null
}

# The static program of the sandbox image, compiled once.
pause_program() {
  local program
  program=$CACHE/pause-$(sha256sum "$ROOT/dev/lib/pause.c" | cut -c1-12)
  if [ ! -x "$program" ]; then
    command -v gcc >/dev/null || need_debian gcc libc6-dev
    gcc -Os -static -s -o "$program.$$" "$ROOT/dev/lib/pause.c"
    mv "$program.$$" "$program"
  fi
  echo "$program"
}
