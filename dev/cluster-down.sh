#!/usr/bin/env bash
# Ends the test cluster that dev/cluster-up.sh started and removes everything it made, its data too.
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/control-plane.sh"
. "$(dirname "$0")/lib/node.sh"

[ -d "$CLUSTER" ] || { say "no cluster in $CLUSTER"; exit 0; }
# Guards the rm -rf below against a mistyped folder.
[ -f "$CLUSTER/mode" ] || die "$CLUSTER was not made by cluster-up.sh; nothing removed"
exec 9> "$CLUSTER/lock"
# A start that was cut off may have a child left that still holds the lock for a moment.
flock -w 20 9 || die "another cluster-up.sh or cluster-down.sh works on $CLUSTER"
if [ "$(cat "$CLUSTER/mode")" = node ]; then
  [ "$(id -u)" = 0 ] || die "this cluster has a node, which only root can end"
  node_down
else
  control_plane_down
fi
! grep -qF " $CLUSTER/" /proc/self/mounts || die "something is still mounted below $CLUSTER; nothing more removed"
rm -rf "$CLUSTER"
step "cluster ended, $CLUSTER removed"
