#!/usr/bin/env bash
# Faults and load in full, for before a release: 100,000 schedules and pairs of faults in virtual time,
# then a burst, many requests, kills and restarts on a real control plane. Prints figures and their
# bars; fails only if something is wrong, not if it is slow.
#   dev/soak.sh [faults|load]
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
part=${1:-all}

say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
if [ "$part" != load ]; then
  VOLUBA_FAULT_SCHEDULES=${VOLUBA_FAULT_SCHEDULES:-80000} VOLUBA_FAULT_PAIRS=${VOLUBA_FAULT_PAIRS:-20000} \
    VOLUBA_FAULT_RACES=${VOLUBA_FAULT_RACES:-1000} \
    cargo test --release --locked -p operator --test faults -- --nocapture
fi
if [ "$part" != faults ]; then
  VOLUBA_SOAK=1 dev/with-control-plane.sh \
    cargo test --release --locked -p operator --test control_plane -- --nocapture --test-threads=1 load::
fi
say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
