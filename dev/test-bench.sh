#!/usr/bin/env bash
# Tests of the benchmarks: reading and writing on small files, whatever their figures; the ruler, the
# truths and the figures of the registration. They need no peers but nibabel, so they share the
# environment of the interoperability tests. Closing line: "bench: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
VENV=$(need_python_venv interop "$ROOT/dev/interop-requirements.txt")
FIGURES=$("$ROOT/dev/bench-files.sh" 32 | grep -c '^figure ') || die "dev/bench-files.sh 32 failed"
[ "$FIGURES" = 12 ] || die "dev/bench-files.sh 32 printed $FIGURES figures in place of 12"
"$VENV/bin/python" "$ROOT/dev/bench/test_bench.py"
