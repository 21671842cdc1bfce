#!/usr/bin/env bash
# Compiles the program of an image: static, without paths of this machine (so that another one builds the
# same), and with the list of what is linked into it (section .dep-v0), for scanners of images. Runs in the
# first stage of the Dockerfiles, as root in Debian.
#   dev/image-program.sh PACKAGE [ARCHITECTURE]      amd64 or arm64; default: this machine's
# Another architecture than this machine's is compiled by Debian's cross compiler.
set -euo pipefail
PACKAGE=$1
case ${2:-} in
  amd64) architecture=x86_64 ;;
  arm64) architecture=aarch64 ;;
  '') architecture=$(uname -m) ;;
  *) echo "image-program.sh: $2 is neither amd64 nor arm64" >&2 && exit 1 ;;
esac
TARGET=$architecture-unknown-linux-gnu
if [ "$architecture" != "$(uname -m)" ]; then
  compiler=$architecture-linux-gnu-gcc
  if ! command -v "$compiler" >/dev/null; then
    apt-get update -qq
    apt-get install -qq --no-install-recommends "gcc-${architecture/_/-}-linux-gnu" "libc6-dev-$2-cross" >/dev/null
  fi
  variable=${TARGET//-/_}
  export "CC_$variable=$compiler" "CARGO_TARGET_${variable^^}_LINKER=$compiler"
  [ -d "$(rustc --print target-libdir --target "$TARGET")" ] || rustup --quiet target add "$TARGET"
fi
# The tool is of this machine, whatever the target.
cargo install --quiet --locked --root target/tools --target-dir target/tools "cargo-auditable@${CARGO_AUDITABLE:?}"
export PATH="$PWD/target/tools/bin:$PATH"
export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$CARGO_HOME/registry/src=crates"
# -p: a build of the whole workspace would give one program the dependencies of the other.
cargo auditable build --release --locked -p "$PACKAGE" --bin "$PACKAGE" --target "$TARGET"
install -D "target/$TARGET/release/$PACKAGE" "/image/$PACKAGE"
