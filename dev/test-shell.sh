#!/usr/bin/env bash
# Checks the shell scripts with shellcheck, and that no file names a path of one machine.
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
command -v shellcheck >/dev/null || need_debian shellcheck
mapfile -t scripts < <(git ls-files 'dev/*.sh' .ci/run)
shellcheck --external-sources --source-path=dev --severity=style "${scripts[@]}"
say "${#scripts[@]} scripts checked"
