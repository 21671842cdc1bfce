#!/usr/bin/env bash
# Tests the Helm chart: each set of values in charts/voluba-align/ci and deploy/ (lint, what it renders,
# strict schemas, checkov, a real API server), refusal of wrong values, installation into a namespace
# that enforces the Pod Security level "restricted", upgrade from the previous chart with requests that
# run, rollback, uninstallation, and the admission policy. Needs no root, and PyPI the first time.
# Prints "chart: N passed, M failed".
. "$(dirname "$0")/lib/common.sh"
. "$(dirname "$0")/lib/check.sh"
if [ -z "${VOLUBA_TEST_KUBECONFIG:-}" ]; then
  exec "$ROOT/dev/with-control-plane.sh" "$0"
fi
need_command jq jq
WORK=$(mktemp -d)
. "$ROOT/dev/chart/common.sh"
. "$ROOT/dev/chart/values.sh"
. "$ROOT/dev/chart/upgrade.sh"
. "$ROOT/dev/chart/rights.sh"
. "$ROOT/dev/chart/admission.sh"
trap 'stop_operator || true; stop_gateway; rm -rf "$WORK"' EXIT

# First, as it looks at everything that the cluster holds.
test_upgrade
test_rollback
test_uninstall
test_rights
test_gateway
test_admission
test_openshift
test_value_sets
test_wrong_values

summary chart
