#!/usr/bin/env bash
# Runs functions of the library in the namespaces of the instance:  inside.sh FUNCTION...
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/cluster.sh"
. "$(dirname "$0")/control-plane.sh"
. "$(dirname "$0")/node.sh"
set_mode node
for function in "$@"; do "$function"; done
