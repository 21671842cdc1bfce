#!/usr/bin/env bash
# First process of a node's namespaces (see node.sh): prepares them, then becomes pause.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/cluster.sh"
. "$(dirname "$0")/node.sh"

# /proc still belongs to the machine: this is the number by which the machine knows this process.
read -r pid _ < /proc/self/stat

mount --make-rslave /
for folder in "${FIXED_FOLDERS[@]}"; do
  mkdir -p "$NODE/private$folder"
  mount --bind "$NODE/private$folder" "$folder"
done
mount -t proc proc /proc
for setting in "${SHIELDED_SYSCTLS[@]}"; do
  [ -f "/proc/sys/$setting" ] || continue
  mkdir -p "$NODE/sysctl/${setting%/*}"
  cat "/proc/sys/$setting" > "$NODE/sysctl/$setting"
  mount --bind "$NODE/sysctl/$setting" "/proc/sys/$setting"
done
# kubelet wants its folder shared, so that mounts reach containers.
mount --bind "$NODE" "$NODE"
mount --make-rshared "$NODE"

ip link set lo up
# A bridge without an address of its own takes the lowest one of its ports: with a new pod, the others would
# go on sending to the old one, for eight seconds.
ip link add pods address 02:00:00:00:00:01 type bridge
ip address add "$POD_NETWORK.1/24" dev pods
# The ClusterIP of the service "kubernetes"; the API server listens there itself.
ip address add "$SERVICE_NETWORK.1/32" dev pods
ip link set pods up

echo "$pid" > "$RUN/init.pid"
touch "$NODE/init-ready"
exec "$(pause_program)" "$CLUSTER"
