#!/usr/bin/env bash
# Runs the bundled example and lets other programs (ANTs, SimpleITK, nitransforms, nibabel) read the result.
# They are installed into a cached virtual environment; closing line: "interop: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"

VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
ALIGNER=${CARGO_TARGET_DIR:-$ROOT/target}/release/aligner
RESULTS=$(mktemp -d)
trap 'rm -rf "$RESULTS"' EXIT
"$ALIGNER" --quiet demo --examples "$ROOT/examples" --output "$RESULTS"
"$VENV/bin/python" "$ROOT/dev/test-interop.py" "$ALIGNER" "$RESULTS/example"
