# Sourced after common.sh: what a machine looks like, as text, to see whether a cluster left something.

machine_snapshot() { # folder of the instance, name of the instance
  echo "# network"
  ip -br link | awk '{ print $1 }' | sort
  ip -br address | awk '{ $2 = ""; print }' | sort
  ip route | sort
  echo "# mounts"
  awk '{ print $1, $2, $3 }' /proc/self/mounts | sort
  echo "# cgroups of the instance"
  find /sys/fs/cgroup -maxdepth 2 -name "$2*" | sort
  echo "# settings that a kubelet overwrites"
  sysctl vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
    kernel.keys.root_maxkeys kernel.keys.root_maxbytes net.ipv4.ip_forward 2>/dev/null || true
  echo "# fixed folders"
  find /run/containerd /var/lib/kubelet /var/lib/cni /var/log/containers /var/log/pods /run/netns /etc/cni 2>/dev/null | sort || true
  echo "# processes and files of the instance"
  local file line
  for file in /proc/[0-9]*/cmdline; do
    line=$(tr '\0' ' ' 2>/dev/null < "$file") || continue
    case $line in *"$1/"*) echo "$line" ;; esac
  done
  find "$1" 2>/dev/null | head -n 20 || true
}
