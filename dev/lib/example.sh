# Sourced after cluster.sh and node.sh: the installation that the demonstration and the node test use,
# and how a request is followed. Expects BIN, the folder of kubectl, and KUBECONFIG and PATH as cluster-env.sh sets them.

NAMESPACE=voluba
RELEASE=voluba-align

claim_folder() { echo "$VOLUMES/$NAMESPACE/$1"; }

# A claim backed by a folder of this machine that any user number may write to.
make_claim() { # name
  local folder
  folder=$(claim_folder "$1")
  mkdir -p "$folder"
  chmod 0777 "$folder"
  sed -e "s|@NAMESPACE@|$NAMESPACE|g" -e "s|@NAME@|$1|g" -e "s|@FOLDER@|$folder|g" "$ROOT/dev/manifests/volume.yaml.in" \
    | kubectl apply -f - >/dev/null
}

prepare_namespace() {
  local claim
  kubectl create namespace "$NAMESPACE" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label --overwrite namespace "$NAMESPACE" \
    pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
  for claim in static-data patches results; do make_claim "$claim"; done
}

# The example's files, where examples/request.yaml and the values below expect them.
load_example() {
  local file
  for file in template_depth patch_image patch_segmentation; do
    [ -f "$ROOT/examples/data/$file.nii.gz" ] || die "examples/data/$file.nii.gz is missing"
  done
  install -m 0644 "$ROOT/examples/data/template_depth.nii.gz" "$(claim_folder static-data)/"
  install -m 0644 "$ROOT"/examples/data/*.nii.gz "$(claim_folder patches)/"
}

# The tag of the images never changes; the annotation makes a new build replace the running operator.
install_chart() { # helm options...
  helm upgrade --install "$RELEASE" "${CHART:-$ROOT/charts/voluba-align}" --namespace "$NAMESPACE" \
    --set operator.image.tag=dev,operator.image.pullPolicy=Never \
    --set aligner.image.tag=dev,aligner.image.pullPolicy=Never \
    --set staticData.existingClaim=static-data \
    --set-string "operator.podAnnotations.voluba-align/build=$(sha256sum "$ROOT/dist/voluba-align-operator.tar" | cut -c1-16)" \
    --set 'templates[0].name=example,templates[0].path=template_depth.nii.gz,templates[0].default=true' "$@"
}

operator_ready() {
  if ! kubectl -n "$NAMESPACE" rollout status "deployment/$RELEASE" --timeout=60s >/dev/null; then
    kubectl -n "$NAMESPACE" get pods >&2
    kubectl -n "$NAMESPACE" logs --tail 20 "deployment/$RELEASE" >&2 || true
    die "the operator did not become ready"
  fi
}

# A field of a request file; kubectl reads YAML without a cluster.
request_field() { # file, field
  "$BIN/kubectl" annotate --local -f "$1" voluba-align/read=true -o json | jq -r "$2 // \"\""
}
request_name() { request_field "$1" .metadata.name; }
# Folder of a request's outputs below the root of a claim's folder.
output_path() { request_field "$1" .spec.output.destination.volume.path; }

phase() { # request name
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o jsonpath='{.status.phase}'
}

reason() { # request name
  kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json | jq -r '
    .status | .failure.reason // ([.conditions[]? | select(.type == "Failed" and .status == "True")][0].reason)
      // ([.conditions[]? | select(.type == "Accepted" and .status == "False")][0].reason) // "none"'
}

# Waits until a request has ended; prints its phase.
ended_phase() { # request name, seconds
  local end=$((SECONDS + $2)) now
  while [ "$SECONDS" -lt "$end" ]; do
    now=$(phase "$1")
    case $now in Succeeded|Failed|Cancelled) echo "$now"; return 0 ;; esac
    sleep 0.3
  done
  echo "still '${now:-}' after $2 s"
  return 1
}

# The same files, byte by byte, the report too: it holds no times and no paths.
same_outputs() { # folder, other folder
  diff -rq "$1" "$2" || return 1
  [ -n "$(find "$1" -type f)" ] || { echo "no files in $1"; return 1; }
  echo "$(find "$1" -type f | wc -l) files are the same"
}

# Folder of what `make run` writes for the same request, without a cluster. Made by compute_local_outputs,
# which is called once: an old result of an older program would prove nothing.
compute_local_outputs() {
  rm -rf "$ROOT/dist/run"
  make --no-print-directory -C "$ROOT" run >&2
}
local_outputs() { echo "$ROOT/dist/run/$(output_path "$1")"; } # request file

nothing_left_of() { # request name
  [ -z "$(kubectl -n "$NAMESPACE" get jobs,pods -l "voluba.ebrains.eu/request=$1" -o name)" ]
}

# A garbage collector that has not yet heard of a new kind of resource looks for one every 30 seconds.
gone_within() { # request name, seconds
  local end=$((SECONDS + $2))
  until nothing_left_of "$1"; do
    [ "$SECONDS" -lt "$end" ] || { kubectl -n "$NAMESPACE" get jobs,pods; return 1; }
    sleep 0.3
  done
}
