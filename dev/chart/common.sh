# Sourced by dev/test-chart.sh: what its parts share. Needs check.sh, and a control plane.
CHART=$ROOT/charts/voluba-align
RELEASE=voluba-align
NAMESPACE=voluba
KUBE_VERSION=$(kubectl version -o json | jq -r .serverVersion.gitVersion)
EXAMPLE=$(kubectl annotate --local -f "$ROOT/examples/request.yaml" test=true -o json)

# --- what Prometheus Operator defines: from its own release, never copied here -------------------

MONITORING=github.com/prometheus-operator/prometheus-operator@v0.85.0
MONITORING_SUM=h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=
monitoring_definitions() { # prints the folder
  local folder=$CACHE/prometheus-operator-${MONITORING##*@} module kind
  if [ ! -e "$folder/complete" ]; then
    need_go
    mkdir -p "$folder"
    module=$(cd "$folder" && GOFLAGS=-mod=mod go mod download -json "$MONITORING")
    [ "$(jq -r .Sum <<< "$module")" = "$MONITORING_SUM" ] || die "$MONITORING is not what it was: $module"
    for kind in servicemonitors prometheusrules; do
      cp "$(jq -r .Dir <<< "$module")/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$folder/"
    done
    chmod u+w "$folder"/*.yaml
    touch "$folder/complete"
  fi
  echo "$folder"
}
DEFINITIONS=$(monitoring_definitions)
install_monitoring_definitions() {
  kubectl apply --server-side -f "$DEFINITIONS" >/dev/null
  established crd/servicemonitors.monitoring.coreos.com crd/prometheusrules.monitoring.coreos.com
}

# --- requests -------------------------------------------------------------------------------------

request_json() { # name [jq edit]: the example's request under another name
  jq --arg name "$1" ".metadata = {name: \$name, namespace: \"$NAMESPACE\"} | ${2:-.}" <<< "$EXAMPLE"
}
get_request() { kubectl -n "$NAMESPACE" get alignmentrequest "$1" -o json; }
phase_is() { # request, phase
  [ "$(get_request "$1" | jq -r '.status.phase // ""')" = "$2" ]
}

within() { # seconds command...: until it succeeds
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { "$@"; return 1; }
    sleep 0.5
  done
}

make_namespace() { # name: with Pod Security restricted, and told about it
  kubectl create namespace "$1" >/dev/null
  kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
}

install() { # chart, helm options...; what helm prints is in install.log
  helm upgrade --install "$RELEASE" "$1" --namespace "$NAMESPACE" "${@:2}" > "$WORK/install.log" 2>&1 || { cat "$WORK/install.log"; return 1; }
}
no_warning() { ! grep -i warning "${1:-$WORK/install.log}"; }
installed_crd() { established crd/alignmentrequests.voluba.ebrains.eu; }
