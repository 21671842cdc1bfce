#!/usr/bin/env bash
# The generated parts of the chart: README.md, and the resource definitions copied from crds/.
#   dev/generate-chart.sh [--check]      --check: only say whether they are up to date
. "$(dirname "$0")/lib/common.sh"

SOURCE=$ROOT/crds
COPY=$ROOT/charts/voluba-align/files/crds
case ${1:-} in
  '')
    mkdir -p "$COPY"
    rm -f "$COPY"/*.yaml
    [ ! -d "$SOURCE" ] || cp "$SOURCE"/*.yaml "$COPY/"
    python3 "$ROOT/dev/chart-readme.py"
    ;;
  --check)
    diff -r --exclude=README.md "$SOURCE" "$COPY" >&2 || die "the chart's copy of crds/ is out of date: run dev/generate-chart.sh"
    python3 "$ROOT/dev/chart-readme.py" --check
    ;;
  *) die "usage: generate-chart.sh [--check]" ;;
esac
