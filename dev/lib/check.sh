# Sourced by test scripts: counts checks, shows the output of those that fail.
PASSED=0 FAILED=0

check() { # description command...
  local description=$1 output
  shift
  if output=$("$@" 2>&1); then
    PASSED=$((PASSED + 1))
    printf 'ok    %s\n' "$description"
  else
    FAILED=$((FAILED + 1))
    printf 'FAIL  %s\n' "$description"
    printf '%s\n' "$output" | tail -n 20 | sed 's/^/      /'
  fi
}

summary() { # name; the exit status says whether all passed
  printf '%s: %d passed, %d failed\n' "$1" "$PASSED" "$FAILED"
  [ "$FAILED" = 0 ]
}
