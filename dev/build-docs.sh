#!/usr/bin/env bash
# Builds the documentation site with mdBook.
#   dev/build-docs.sh [FOLDER]      default: dist/site; open FOLDER/index.html
# Its pages are those of the repository, at the same places, so that links between them hold in both.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
SITE=${1:-$ROOT/dist/site}
VENV=$(need_python_venv docs "$ROOT/dev/docs-requirements.txt")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# What the pages are, and what they link to.
git ls-files -z --cached --others --exclude-standard -- README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE docs \
  deploy charts/voluba-align dev examples crds \
  | xargs -0 cp --parents --target-directory "$WORK"
mv "$WORK/docs/book.toml" "$WORK/book.toml"
# The summary lies in docs/; mdBook wants it, and the links in it, at the root.
sed -E 's#\]\(#](docs/#; s#\]\(docs/\.\./#](#' "$WORK/docs/SUMMARY.md" > "$WORK/SUMMARY.md"
rm "$WORK/docs/SUMMARY.md"
"$VENV/bin/python" "$ROOT/dev/docs/formulas.py" "$WORK"/docs/*.md
rm -rf "$SITE"
mkdir -p "$SITE"
"$VENV/bin/mdbook" build "$WORK" --dest-dir "$SITE" 2>&1 | tee "$WORK/log" >&2
! grep -qE 'WARN|ERROR' "$WORK/log" || die "mdbook warns"
say "the site: $SITE/index.html, $(find "$SITE" -name '*.html' | wc -l) pages"
