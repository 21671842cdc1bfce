#!/usr/bin/env bash
# Checks the documentation: its requests are valid, its links lead somewhere.
. "$(dirname "$0")/lib/common.sh"
cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
python3 "$ROOT/dev/test-docs.py" "${CARGO_TARGET_DIR:-$ROOT/target}/release/aligner"
