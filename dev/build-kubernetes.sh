#!/usr/bin/env bash
# Builds the Kubernetes programs of the test bed from the pinned Go modules dev/kube and dev/helm.
#   dev/build-kubernetes.sh          build what is missing; prints the folder with the programs
# Takes 10-30 minutes on two cores the first time (about 12 CPU minutes), nothing afterwards.
. "$(dirname "$0")/lib/common.sh"

pinned() { # the version of a module in a go.mod under dev/
  awk -v module="$2" '{ for (i = 1; i < NF; i++) if ($i == module && $(i + 1) ~ /^v[0-9]/) { print substr($(i + 1), 2); exit } }' \
    "$ROOT/dev/$1/go.mod"
}
KUBE_VERSION=$(pinned kube k8s.io/kubernetes)
HELM_VERSION=$(pinned helm helm.sh/helm/v4)
[ -n "$KUBE_VERSION" ] && [ -n "$HELM_VERSION" ] || die "no pinned version found in dev/kube/go.mod or dev/helm/go.mod"
OUT=$CACHE/kubernetes-$KUBE_VERSION
mkdir -p "$OUT"

# One build at a time: two checkouts may share the cache.
exec 9>"$OUT/.lock"
flock -n 9 || { say "another build of Kubernetes $KUBE_VERSION is running; waiting for it"; flock 9; }

build() { # program module-folder package ldflags
  local program=$1 folder=$2 package=$3 ldflags=$4 start=$SECONDS
  [ -x "$OUT/$program" ] && return 0
  need_go
  say "building $program (the first of them takes 5-25 minutes, the others 1-4)"
  (cd "$ROOT/dev/$folder" && CGO_ENABLED=0 GOFLAGS="-mod=readonly -p=2" \
    go build -trimpath -ldflags "-s -w $ldflags" -o "$OUT/.$program.new" "$package") 9>&-
  mv "$OUT/.$program.new" "$OUT/$program"
  say "built $program in $((SECONDS - start)) s"
}

stamp() { # the version that the components report; unstamped they say v0.0.0
  local package minor=${KUBE_VERSION#*.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean ' \
      "$package" "$KUBE_VERSION" "$package" "${KUBE_VERSION%%.*}" "$package" "${minor%%.*}" "$package"
  done
}

for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
  build "$program" kube "k8s.io/kubernetes/cmd/$program" "$(stamp)"
done
build helm helm helm.sh/helm/v4/cmd/helm "-X helm.sh/helm/v4/internal/version.version=v$HELM_VERSION"
echo "$OUT"
