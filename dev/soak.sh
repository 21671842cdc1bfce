#!/usr/bin/env bash
# Faults and load in full, for before a release. Prints figures beside their bars, and at the end how many
# there were and how many are short; fails only if something is wrong, not if it is slow.
#   SUITE=operator  100,000 schedules and pairs of faults in virtual time, then the program on a real control
#                   plane: a fault at every call, a burst, many requests, kills, restarts, changes of leaders
#   SUITE=faults    only the first part of it
#   SUITE=load      only the second
#   SUITE=gateway   a thousand clients that poll, ten thousand connections that say nothing
#   SUITE=data      the aligner's files: fuzzing, kills, full disks, memory (dev/soak-data.sh)
#   SUITE=delivery  a file of 1.3 GB is loaded, killed at ten random points (4 GB of disk); two clean builds of
#                   each image give one digest (dev/soak-images.sh); images for arm64 (dev/soak-arm64.sh)
# The Job controller may do more at once than by default, and there is no scheduler: the test binds no pods,
# it ends them. dev/soak.sh [NAME OF A TEST...] runs only these of the second part.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
SUITE=${SUITE:-operator}
OUTPUT=$(mktemp)
trap 'rm -f "$OUTPUT"' EXIT

faults() {
  VOLUBA_FAULT_SCHEDULES=${VOLUBA_FAULT_SCHEDULES:-80000} VOLUBA_FAULT_PAIRS=${VOLUBA_FAULT_PAIRS:-20000} \
    VOLUBA_FAULT_RACES=${VOLUBA_FAULT_RACES:-1000} \
    cargo test --release --locked -p operator --test faults -- --nocapture
}
load() { # test...
  [ $# -gt 0 ] || set -- load:: crashes:: replicas::
  VOLUBA_SOAK=1 VOLUBA_SCHEDULER=off \
    VOLUBA_CONTROLLER_MANAGER_FLAGS="--kube-api-qps=2000 --kube-api-burst=4000 --concurrent-job-syncs=20" \
    dev/with-control-plane.sh \
    cargo test --release --locked -p operator --test control_plane -- --nocapture --test-threads=1 "$@"
}

gateway() { # test...
  [ $# -gt 0 ] || set -- polling:: tokens:: service:: v0:: v1:: callers:: followed:: gateway_crashes::
  VOLUBA_SOAK=1 dev/with-control-plane.sh \
    cargo test --release --locked -p operator --test control_plane -- --nocapture --test-threads=1 "$@"
}

delivery() {
  VOLUBA_STATIC_DATA_BYTES=${VOLUBA_STATIC_DATA_BYTES:-1300000000} \
    cargo test --locked -p operator --test static_data kills:: -- --nocapture --test-threads=1
}

say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
status=0
case $SUITE in
  operator) { faults && load "$@"; } 2>&1 | tee "$OUTPUT" || status=1 ;;
  faults) faults 2>&1 | tee "$OUTPUT" || status=1 ;;
  gateway) gateway "$@" 2>&1 | tee "$OUTPUT" || status=1 ;;
  load) load "$@" 2>&1 | tee "$OUTPUT" || status=1 ;;
  data) dev/soak-data.sh "$@" 2>&1 | tee "$OUTPUT" || status=1 ;;
  delivery) { delivery && dev/soak-images.sh "$@" && dev/soak-arm64.sh; } 2>&1 | tee "$OUTPUT" || status=1 ;;
  *) die "SUITE=$SUITE is not one of operator, faults, load, gateway, data, delivery" ;;
esac
say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
# A test's name may stand before its first figure.
echo "$(grep -c 'figure .* bar ' "$OUTPUT" || true) figures, $(grep -c 'figure .* bar .* short$' "$OUTPUT" || true) short"
exit "$status"
