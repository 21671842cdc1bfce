#!/usr/bin/env bash
# Runs the bundled example and lets other programs (ANTs, nibabel) read the result.
# They are installed into a cached virtual environment; closing line: "interop: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"

need_python_venv() { # name, requirements file -> folder of a virtual environment with exactly these
  local folder
  folder=$CACHE/$1-$(sha256sum "$2" | cut -c 1-12)
  if [ ! -e "$folder/complete" ]; then
    say "installing $(tr '\n' ' ' < "$2")(about a minute)"
    rm -rf "$folder"
    python3 -m venv "$folder" 2>/dev/null || { need_debian python3-venv; python3 -m venv "$folder"; }
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    touch "$folder/complete"
  fi
  echo "$folder"
}

VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
ALIGNER=${CARGO_TARGET_DIR:-$ROOT/target}/release/aligner
RESULTS=$(mktemp -d)
trap 'rm -rf "$RESULTS"' EXIT
"$ALIGNER" --quiet demo --examples "$ROOT/examples" --output "$RESULTS"
"$VENV/bin/python" "$ROOT/dev/test-interop.py" "$ALIGNER" "$RESULTS/example"
