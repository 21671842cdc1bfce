#!/usr/bin/env bash
# The images for arm64, compiled on amd64: what is in them, and that their programs work, in QEMU. The bundled example must
# give the same bytes as this machine's own program. Needs root, a quarter of an hour. Called by
# `make soak SUITE=delivery`.
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/check.sh"
[ "$(uname -m)" = x86_64 ] || die "this machine is none that would emulate arm64"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
"$ROOT/dev/build-images.sh" --architecture arm64
need_command qemu-aarch64-static qemu-user-static
VENV=$(need_python_venv supply "$ROOT/dev/supply-requirements.txt")

PROGRAM="import sys; sys.path.insert(0, sys.argv[1]); from oci_archive import Archive
open(sys.argv[3], 'wb').write(Archive(sys.argv[2]).executables()[0].content)"
for name in aligner operator; do
  python3 -c "$PROGRAM" "$ROOT/dev/lib" "$ROOT/dist/voluba-align-$name-arm64.tar" "$WORK/$name"
  chmod +x "$WORK/$name"
done
# The aligner sets this and starts itself anew, which the kernel does not do for a program of another machine.
export MALLOC_MMAP_THRESHOLD_=262144
emulated() { qemu-aarch64-static "$WORK/$1" "${@:2}"; }
own() { cargo run --quiet --locked --manifest-path "$ROOT/Cargo.toml" -p "$1" -- "${@:2}"; }

same_output() { diff <(emulated "$@") <(own "$@"); }
same_example() {
  (cd "$ROOT" && emulated aligner demo --output "$WORK/arm64" && own aligner demo --output "$WORK/own") > "$WORK/log" 2>&1 \
    || { tail -n 5 "$WORK/log"; return 1; }
  [ "$(find "$WORK/own" -type f | wc -l)" -ge 8 ] && diff -r "$WORK/arm64" "$WORK/own"
}

check "images for arm64: what is in them" "$VENV/bin/python" "$ROOT/dev/test-images.py" --architecture arm64
check "aligner: says what it is" same_output aligner --version
check "operator: prints the same definitions" same_output operator crd
check "operator: makes the same Job" same_output operator explain "$ROOT/examples/request.yaml"
check "aligner: the bundled example gives the same bytes" same_example
summary arm64
