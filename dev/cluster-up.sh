#!/usr/bin/env bash
# Starts the test cluster: etcd, the Kubernetes control plane and, unless --no-node, one node that runs
# real pods. A second call starts only what is missing. Ended by dev/cluster-down.sh.
#   dev/cluster-up.sh [--no-node]
# Without a node no privilege is needed; with a node, root is. Settings: dev/lib/cluster.sh.
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/certificates.sh"
. "$(dirname "$0")/lib/control-plane.sh"
. "$(dirname "$0")/lib/node.sh"

mode=node
case ${1:-} in
  '') ;;
  --no-node) mode=control-plane ;;
  *) die "usage: cluster-up.sh [--no-node]" ;;
esac

[ "$mode" = control-plane ] || check_node_possible
need_command openssl openssl
need_command curl curl
need_command etcd etcd-server
if [ "$mode" = node ]; then
  need_command ip iproute2
  need_command containerd containerd
  need_command runc runc
  (cni_plugins) >/dev/null 2>&1 || need_debian containernetworking-plugins
fi
BIN=$("$ROOT/dev/build-kubernetes.sh")
export BIN

mkdir -p "$CLUSTER" "$RUN" "$LOGS" "$VOLUMES"
exec 9> "$CLUSTER/lock"
# A start that was cut off may have a child left that still holds the lock for a moment.
flock -w 20 9 || die "another cluster-up.sh or cluster-down.sh works on $CLUSTER"
if [ -f "$CLUSTER/mode" ] && [ "$(cat "$CLUSTER/mode")" != "$mode" ]; then
  die "the cluster in $CLUSTER was started as '$(cat "$CLUSTER/mode")', not as '$mode': run dev/cluster-down.sh first"
fi
echo "$mode" > "$CLUSTER/mode"
set_mode "$mode"

STEP_START=$(microseconds) TOTAL_START=$STEP_START
make_certificates
step "certificates made"
if [ "$mode" = node ]; then
  PAUSE=$(pause_program)
  namespaces_up
  "$ROOT/dev/lib/oci_image.py" "$NODE/pause.tar" localhost/voluba-align/pause:1 "$PAUSE=/pause"
  inside "$ROOT/dev/lib/inside.sh" control_plane_up containerd_up 9>&-
  import_image "$NODE/pause.tar"
  inside "$ROOT/dev/lib/inside.sh" kubelet_up 9>&-
else
  control_plane_up
fi
STEP_START=$TOTAL_START
step "in total; folder $CLUSTER"
echo "export KUBECONFIG=$PKI/admin.kubeconfig"
