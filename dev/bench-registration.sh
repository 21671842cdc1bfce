#!/usr/bin/env bash
# The registration beside its peers (ANTs, greedy, the Python prototype) on cases with a known answer:
#   dev/bench-registration.sh [REPORT.md] [--only PATTERN] [--tools a,b] [--reuse] [--work DIR] [--list]
# One line per figure, `figure <name> <value> <unit> bar <bar> ok|short`; every number in REPORT.md.
# All cases take about an hour of CPU, nearly all of it ANTs.
. "$(dirname "$0")/lib/common.sh"

report=()
case ${1:-} in
  '' | -*) ;;
  *) report=(--report "$1"); shift ;;
esac
VENV=$(need_python_venv bench "$ROOT/dev/bench/requirements.txt")
cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
exec "$VENV/bin/python" "$ROOT/dev/bench/registration.py" --work "$ROOT/dist/bench" \
  --aligner "${CARGO_TARGET_DIR:-$ROOT/target}/release/aligner" "${report[@]}" "$@"
