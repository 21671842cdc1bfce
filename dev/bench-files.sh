#!/usr/bin/env bash
# Reading and writing volumes beside nibabel: CPU time and memory at 256³, median of five, in turn.
# One line per figure, `figure <name> <value> <unit> bar <bar> ok|short`.
#   dev/bench-files.sh [SIDE]
. "$(dirname "$0")/lib/common.sh"
VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
cargo build --quiet --release --locked -p aligner --example copy_volume --manifest-path "$ROOT/Cargo.toml"
exec "$VENV/bin/python" "$ROOT/dev/bench/files.py" "${CARGO_TARGET_DIR:-$ROOT/target}/release/examples/copy_volume" "${1:-256}"
