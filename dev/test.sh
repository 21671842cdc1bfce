#!/usr/bin/env bash
# Runs every test and says at the end how many ran at each level:
#   1  unit, property and program tests, other programs reading our files, documentation, supply chain
#   2  the operator against a scripted API server, and against one in memory where everything fails
#   3  a real control plane: the operator, the custom resources, the gateway, the chart
#   4  a real node: images, chart, pods, the commands of the documentation
# Nothing is skipped silently; VOLUBA_SKIP_NODE=1 leaves out level 4, which needs root, and says so.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT
failed=0

part() { # log name, command...
  local name=$1 start=$SECONDS
  shift
  say "$name: $*"
  if "$@" 2>&1 | tee "$LOGS/$name"; then
    say "$name: ok after $((SECONDS - start)) s"
  else
    say "$name: FAILED after $((SECONDS - start)) s"
    failed=1
  fi
}

part style cargo fmt --all --check
part clippy cargo clippy --workspace --all-targets --locked -- -D warnings
part shell dev/test-shell.sh
part supply dev/test-supply-chain.sh
part rust dev/with-control-plane.sh cargo test --workspace --locked --no-fail-fast
part interop dev/test-interop.sh
part bench dev/test-bench.sh
part page dev/test-page.sh
part docs dev/test-docs.sh
part openapi dev/test-openapi.sh
part ui dev/test-ui.sh
part chart dev/test-chart.sh
part cluster dev/test-cluster-clean.sh
part images dev/test-images.sh
part node dev/test-node.sh
part docscluster dev/test-docs-cluster.sh

# Level of each Rust test program: the operator's tests/reconcile* and tests/faults are level 2, tests/control_plane* 3.
rust_counts() { # level -> "passed failed"
  awk -v level="$1" '
    /Running|Doc-tests/ { at = /tests\/faults|tests\/reconcile/ ? 2 : /tests\/control_plane/ ? 3 : 1 }
    /^test result:/ && at == level { passed += $4; failed += $6 }
    END { print passed + 0, failed + 0 }' "$LOGS/rust"
}
script_counts() { # log name -> "passed failed"
  sed -n 's/^[a-z]*: \([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$LOGS/$1" | tail -n 1
}
total_passed=0 total_failed=0
level() { # name, "passed failed"...
  local name=$1 passed=0 failed=0 p f
  shift
  for counts in "$@"; do
    read -r p f <<< "${counts:-0 0}"
    passed=$((passed + p)) failed=$((failed + f))
  done
  printf 'level %-42s %5d passed, %d failed\n' "$name" "$passed" "$failed"
  [ "$passed" -gt 0 ] || [ "${VOLUBA_SKIP_NODE:-}${name:0:1}" = 14 ] || { echo "error: no test ran at this level"; failed=$((failed + 1)); }
  total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
}
echo
level "1 units, programs, other programs, docs" "$(rust_counts 1)" "$(script_counts supply)" "$(script_counts interop)" "$(script_counts bench)" "$(script_counts page)" "$(script_counts docs)"
level "2 scenarios and faults, simulated API server" "$(rust_counts 2)"
level "3 real control plane, chart" "$(rust_counts 3)" "$(script_counts openapi)" "$(script_counts ui)" "$(script_counts chart)"
level "4 real node, images" "$(script_counts cluster)" "$(script_counts images)" "$(script_counts node)" "$(script_counts docscluster)"
# What a part could not check here, in its own words.
sed -n 's/^==> NOT CHECKED: /not checked: /p' "$LOGS"/*
[ "$failed" = 0 ] || [ "$total_failed" -gt 0 ] || total_failed=1
echo
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ]
