#!/usr/bin/env bash
# Loads image archives into the test cluster's node.
#   dev/import-images.sh [ARCHIVE...]      default: the two of dist/
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/node.sh"

[ "$(id -u)" = 0 ] || die "loading images into the node needs root"
init_pid >/dev/null || die "no cluster with a node runs in $CLUSTER: run dev/cluster-up.sh"
ARCHIVES=("$@")
[ $# -gt 0 ] || ARCHIVES=("$ROOT/dist/voluba-align-operator.tar" "$ROOT/dist/voluba-align-aligner.tar")
for archive in "${ARCHIVES[@]}"; do
  [ -f "$archive" ] || die "$archive is missing: run dev/build-images.sh"
  import_image "$archive"
  step "${archive##*/} imported"
done
