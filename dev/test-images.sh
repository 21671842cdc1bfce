#!/usr/bin/env bash
# What is in the two images, read from the archives of dist/: size, one program and nothing else, user,
# labels, the list of packages. Builds them if they are not there. Closing line: "images: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
if [ "${VOLUBA_SKIP_NODE:-}" = 1 ]; then
  say "the test of the images is SKIPPED because VOLUBA_SKIP_NODE=1: building them needs root"
  echo "images: 0 passed, 0 failed, all skipped"
  exit 0
fi
"$ROOT/dev/build-images.sh"
VENV=$(need_python_venv supply "$ROOT/dev/supply-requirements.txt")
"$VENV/bin/python" "$ROOT/dev/test-images.py"
