#!/usr/bin/env bash
# Data in and out, in full (`make soak SUITE=data`): fuzzing, hostile files, faults of servers, kills, full
# disks, memory, and volumes beside nibabel. Prints figures and their bars; fails only if something is
# wrong, not if it is slow.
#   dev/soak-data.sh [fuzz|hostile|network|endurance|memory|files]...   all of them without a word
# VOLUBA_FUZZ_SECONDS (60 for each target) or VOLUBA_FUZZ_INPUTS, VOLUBA_FUZZ_SEED, VOLUBA_KILLS (100),
# VOLUBA_DISK_STEPS (100) and VOLUBA_MEMORY_SIZES say how much.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
[ $# -gt 0 ] || set -- fuzz hostile network endurance memory files

in_release() { # test program, arguments of the tests
  cargo test --release --locked -p aligner --test "$1" -- --nocapture "${@:2}"
}

say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
for part in "$@"; do
  say "$part"
  case $part in
    fuzz) VOLUBA_FUZZ_SECONDS=${VOLUBA_FUZZ_SECONDS:-60} in_release fuzz ;;
    hostile)
      in_release hostile
      in_release nifti
      ;;
    network) in_release network ;;
    endurance) VOLUBA_KILLS=${VOLUBA_KILLS:-100} VOLUBA_DISK_STEPS=${VOLUBA_DISK_STEPS:-100} in_release endurance --test-threads=1 ;;
    memory) VOLUBA_MEMORY_SIZES=${VOLUBA_MEMORY_SIZES:-"64 96x80x72 128 160x140x120 192x200x160 256"} in_release memory ;;
    files) dev/bench-files.sh ;;
    *) die "no part '$part'; there are fuzz, hostile, network, endurance, memory and files" ;;
  esac
done
say "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
