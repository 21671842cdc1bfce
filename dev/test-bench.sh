#!/usr/bin/env bash
# Tests of the registration benchmark: its ruler, its truths, its figures. It needs no peers, so it
# shares the environment of the interoperability tests. Closing line: "bench: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
"$VENV/bin/python" "$ROOT/dev/bench/test_bench.py"
