#!/usr/bin/env bash
# Two clean builds of each image give one digest: from two copies of the sources in different folders, with
# nothing kept from one to the other. Needs root, half an hour. Called by `make soak SUITE=delivery`.
. "$(dirname "$0")/lib/common.sh"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PROGRAM="import sys; sys.path.insert(0, sys.argv[1]); from oci_archive import Archive; print(Archive(sys.argv[2]).digest)"
digest() { python3 -c "$PROGRAM" "$ROOT/dev/lib" "$1"; } # archive

images=("$@")
[ $# -gt 0 ] || images=(aligner operator)
# The commit is a label of the images.
commit=$(git -C "$ROOT" rev-parse HEAD)
for copy in first second-of-another-length; do
  git clone --quiet --no-hardlinks "$ROOT" "$WORK/$copy/source"
  git -C "$WORK/$copy/source" -c advice.detachedHead=false checkout --quiet "$commit"
  "$WORK/$copy/source/dev/build-images.sh" --clean --into "$WORK/$copy/images" "${images[@]}"
done
differ=0
for image in "${images[@]}"; do
  first=$(digest "$WORK/first/images/voluba-align-$image.tar")
  second=$(digest "$WORK/second-of-another-length/images/voluba-align-$image.tar")
  say "$image: $first, $second"
  documents=same
  cmp -s "$WORK"/*/images/voluba-align-"$image".cdx.json || documents=different
  if [ "$first" = "$second" ] && [ "$documents" = same ]; then verdict=ok; else verdict=short differ=1; fi
  echo "figure reproducible-$image $([ "$first" = "$second" ] && echo 1 || echo 2) digests-of-two-builds bar 1 $verdict"
done
exit "$differ"
