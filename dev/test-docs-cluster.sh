#!/usr/bin/env bash
# Runs the commands of the documentation that need pods, on a test cluster of its own: from the empty cluster to
# the first result as docs/install.md says it, timed, then the clients in each language and the rest, page by
# page. Prints figures, and "docscluster: N passed, M failed".
# Needs root; VOLUBA_SKIP_NODE=1 leaves it out openly.
. "$(dirname "$0")/lib/common.sh"
if [ "${VOLUBA_SKIP_NODE:-}" = 1 ]; then
  say "the documentation's commands that need pods are SKIPPED because VOLUBA_SKIP_NODE=1"
  echo "docscluster: 0 passed, 0 failed, all skipped"
  exit 0
fi
export VOLUBA_CLUSTER_PORT_BASE=${VOLUBA_CLUSTER_PORT_BASE:-18556}
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/voluba-align
mkdir -p "$STATE"
VOLUBA_CLUSTER_DIR=$(mktemp -u "$STATE/docs-test.XXXXXX")
export VOLUBA_CLUSTER_DIR
. "$(dirname "$0")/lib/cluster.sh"
. "$(dirname "$0")/lib/node.sh"
. "$(dirname "$0")/lib/example.sh"
need_command jq jq
need_command npm npm
need_command busybox busybox-static
VENV=$(need_python_venv docs "$ROOT/dev/docs-requirements.txt")
BIN=$("$ROOT/dev/build-kubernetes.sh")
WORK=$(mktemp -d)
# shellcheck disable=SC2317  # called by the trap
finish() {
  "$ROOT/dev/cluster-down.sh" >/dev/null 2>&1 || true
  rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The official client for JavaScript, in the versions of dev/docs/package-lock.json.
node_modules() {
  local folder
  folder=$CACHE/docs-npm-$(sha256sum "$ROOT/dev/docs/package-lock.json" | cut -c 1-12)
  if [ ! -e "$folder/complete" ]; then
    mkdir -p "$folder"
    cp "$ROOT/dev/docs/package.json" "$ROOT/dev/docs/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --silent --no-audit --no-fund >&2
    touch "$folder/complete"
  fi
  echo "$folder/node_modules"
}

# What a storage class does elsewhere: a folder of this machine for each claim of examples/cluster, which any user
# number may write to.
prepare_volumes() {
  local claim folder
  for claim in static-data patches results; do
    folder=$(claim_folder "$claim")
    mkdir -p "$folder"
    chmod 0777 "$folder"
    # Without the claims themselves: the documentation makes them.
    sed -e "s|@NAMESPACE@|$NAMESPACE|g" -e "s|@NAME@|$claim|g" -e "s|@FOLDER@|$folder|g" -e '/^---$/,$d' \
      "$ROOT/dev/manifests/volume.yaml.in" | kubectl apply -f - >/dev/null
  done
}

"$ROOT/dev/build-images.sh"
mkdir "$WORK/programs"
cargo build --quiet --locked -p operator --example client --manifest-path "$ROOT/Cargo.toml"
ln -s "$(node_modules)" "$WORK/programs/node_modules"
tools=$WORK/busybox.tar
"$ROOT/dev/lib/oci_image.py" "$tools" docker.io/library/busybox:1.37 "$(command -v busybox)=/bin/busybox" \
  "$(command -v busybox)=/bin/sh" "$(command -v busybox)=/bin/tar" "$(command -v busybox)=/bin/cp"

"$ROOT/dev/cluster-up.sh" >/dev/null
eval "$("$ROOT/dev/cluster-env.sh")"
"$ROOT/dev/import-images.sh"
"$ROOT/dev/import-images.sh" "$tools"
prepare_volumes
# python3 is the one with the official client.
PATH=$VENV/bin:$PATH python3 "$ROOT/dev/test-docs.py" "$WORK/programs" --cluster
