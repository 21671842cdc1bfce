#!/usr/bin/env bash
# Opens report.html of the bundled example and the page of its depth in a headless browser: their
# pictures must show, and nothing may be asked of the network. Closing line: "page: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$BROWSER" ]; then
  need_debian chromium
  BROWSER=chromium
fi
VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
cargo build --quiet --release --locked -p aligner --manifest-path "$ROOT/Cargo.toml"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
ALIGNER=${CARGO_TARGET_DIR:-$ROOT/target}/release/aligner
"$ALIGNER" --quiet demo --examples "$ROOT/examples" --output "$WORK"
"$ALIGNER" --quiet depth "$ROOT/examples/data/patch_segmentation.nii.gz" --output "$WORK/depth.nii.gz" \
  --report "$WORK/depth.html"
"$VENV/bin/python" "$ROOT/dev/test-page.py" "$BROWSER" "$WORK/example/report.html" "$WORK/depth.html" "$WORK"
