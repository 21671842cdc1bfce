#!/usr/bin/env bash
# Every benchmark, each figure beside its bar; writes docs/benchmarks.md (`make bench`).
# About an hour of CPU, nearly all of it the peers'. Options go to bench-registration.sh; with --reuse
# peers that ran before on the same cases are not run again, which the report says.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT

say "registration: cost"
cargo bench --quiet --locked -p aligner --bench registration | tee "$OUT/cost"
say "depth: errors and cost"
cargo bench --quiet --locked -p aligner --bench depth | tee "$OUT/depth"
say "files: beside nibabel"
dev/bench-files.sh | tee "$OUT/files"
say "registration: beside its peers"
dev/bench-registration.sh "$OUT/peers.md" "$@" | tee "$OUT/peers"

block() { # title, file
  printf '\n## %s\n\n```text\n' "$1"
  cat "$2"
  printf '```\n'
}
{
  cat "$OUT/peers.md"
  block 'Cost of the registration (aligner/benches/registration.rs)' "$OUT/cost"
  block 'Cortical depth (aligner/benches/depth.rs)' "$OUT/depth"
  block 'Reading and writing volumes, beside nibabel (dev/bench/files.py)' "$OUT/files"
} > docs/benchmarks.md
say "written: docs/benchmarks.md"
cat "$OUT"/{cost,depth,files,peers} | awk '/^figure / { all++; short += $NF == "short" } END { print all " figures, " short + 0 " short" }'
