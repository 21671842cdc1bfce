#!/usr/bin/env bash
# Builds the two container images with buildah and writes them to dist/ as OCI archives, each with the
# list of what is linked into its program beside it (CycloneDX, NAME.cdx.json).
#   dev/build-images.sh [--clean] [--into FOLDER] [--architecture arm64] [aligner] [operator]      default: both
# --clean: nothing that was compiled or downloaded before is used. --into: another folder than dist/.
# --architecture: amd64 or arm64, if it is not this machine's; the archives are called NAME-ARCHITECTURE.tar.
# Files in the images carry the time SOURCE_DATE_EPOCH, by default 0: the same sources give the same digest.
# The Rust base image that the Dockerfiles name is pulled once; where no registry can be reached, a
# stand-in of the same name is made from Debian packages and the Rust toolchain of this machine.
# The storage and the target folders are kept below the cache folder. An image whose sources have not
# changed since dist/ was written is not built again.
. "$(dirname "$0")/lib/common.sh"

[ "$(uname -s)" = Linux ] || die "images are built on Linux only"
[ "$(id -u)" = 0 ] || die "building the images needs root (mounts in the build); run as root"
need_command buildah buildah
CLEAN='' INTO=$ROOT/dist ARCHITECTURE='' IMAGES=()
while [ $# -gt 0 ]; do
  case $1 in
    --clean) CLEAN=1 ;;
    --into) INTO=${2:?--into needs a folder} && shift ;;
    --architecture) ARCHITECTURE=${2:?--architecture needs one} && shift ;;
    *) IMAGES+=("$1") ;;
  esac
  shift
done
[ ${#IMAGES[@]} -gt 0 ] || IMAGES=(aligner operator)
for image in "${IMAGES[@]}"; do
  [ -f "$ROOT/Dockerfile.$image" ] || die "no Dockerfile.$image; usage: build-images.sh [--clean] [--into FOLDER] [--architecture arm64] [aligner] [operator]"
done

STORAGE=$CACHE/images
mkdir -p "$STORAGE" "$INTO"
VENV=$(need_python_venv supply "$ROOT/dev/supply-requirements.txt")
exec 9> "$STORAGE/lock"
flock -n 9 || { say "another image build is running; waiting for it"; flock 9; }
builder() { buildah --root "$STORAGE/storage" --runroot "$STORAGE/run" --storage-driver overlay "$@" 9>&-; }
STORAGE_POLICY=$STORAGE/policy.json
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' > "$STORAGE_POLICY"

BASE=$(sed -n 's/^ARG RUST_IMAGE=//p' "$ROOT/Dockerfile.aligner")
[ "$BASE" = "$(sed -n 's/^ARG RUST_IMAGE=//p' "$ROOT/Dockerfile.operator")" ] || die "the Dockerfiles name different base images"

make_stand_in() {
  local version suite folder sysroot container
  version=${BASE##*:} version=${version%%-*} suite=${BASE##*-}
  command -v rustc >/dev/null || die "$BASE cannot be pulled, and there is no Rust toolchain here to stand in for it"
  case "$(rustc --version)" in
    "rustc $version".*) ;;
    *) die "$BASE cannot be pulled, and $(rustc --version) cannot stand in for Rust $version" ;;
  esac
  need_command debootstrap debootstrap
  say "$BASE cannot be pulled; making a stand-in from Debian $suite and $(rustc --version) (2-4 minutes, once)"
  folder=$STORAGE/stand-in.tmp
  rm -rf "$folder"
  debootstrap --variant=minbase --include=ca-certificates,gcc,g++,libc6-dev,make "$suite" "$folder" > "$STORAGE/debootstrap.log" 2>&1 \
    || { tail -n 5 "$STORAGE/debootstrap.log" >&2; die "debootstrap failed; its log is $STORAGE/debootstrap.log"; }
  rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/*
  sysroot=$(rustc --print sysroot)
  mkdir -p "$folder/usr/local/rust" "$folder/usr/local/cargo"
  tar -C "$sysroot" --exclude=./share --exclude=./lib/rustlib/src -cf - . | tar -C "$folder/usr/local/rust" -xf -
  container=$(builder from scratch)
  builder add --quiet "$container" "$folder" / >/dev/null
  builder config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  builder commit --quiet --rm "$container" "$BASE" >/dev/null
  rm -rf "$folder"
  touch "$STORAGE/stand-in"
}

if ! builder inspect --type image "$BASE" >/dev/null 2>&1; then
  say "pulling $BASE"
  timeout 300 buildah --root "$STORAGE/storage" --runroot "$STORAGE/run" --storage-driver overlay \
    pull --quiet --signature-policy "$STORAGE_POLICY" "$BASE" >/dev/null 2>&1 9>&- || make_stand_in
fi

# Speed only: without these folders the Dockerfiles build the same. Certificates: a machine behind an
# inspecting proxy has its own.
CARGO_REGISTRY=${CARGO_HOME:-$HOME/.cargo}/registry
mkdir -p "$CARGO_REGISTRY"
VOLUMES=()
[ -n "$CLEAN" ] || VOLUMES+=(--volume "$CARGO_REGISTRY:/usr/local/cargo/registry")
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -f "$certificates" ] || VOLUMES+=(--volume "$certificates:$certificates:ro")

# Another architecture is compiled on this one.
PLATFORM=() SUFFIX=''
if [ -n "$ARCHITECTURE" ]; then
  # Buildah 1.28 does not say by itself which platform it builds on.
  own=$(uname -m) own=${own/x86_64/amd64} own=${own/aarch64/arm64}
  PLATFORM=(--platform "linux/$ARCHITECTURE" --build-arg "BUILDPLATFORM=linux/$own") SUFFIX=-$ARCHITECTURE
  case $ARCHITECTURE in
    amd64) triple=x86_64-unknown-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu ;;
    *) die "--architecture $ARCHITECTURE is neither amd64 nor arm64" ;;
  esac
  # The stand-in has this machine's toolchain, and no rustup to get another standard library with.
  if [ -f "$STORAGE/stand-in" ]; then
    library=$(rustc --print target-libdir --target "$triple")
    [ -d "$library" ] || rustup --quiet target add "$triple"
    VOLUMES+=(--volume "${library%/lib}:/usr/local/rust/lib/rustlib/$triple:ro")
  fi
fi

VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
REVISION=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)
# All that enters a program, as one number.
sources_digest() { # image
  (cd "$ROOT" && find "Dockerfile.$1" .dockerignore dev/image-program.sh Cargo.toml Cargo.lock aligner operator -type f \
    -not -path '*/target/*' -not -path '*/tests/*' -not -path '*/benches/*' -not -path '*/examples/*' -print0 \
    | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

for image in "${IMAGES[@]}"; do
  start=$SECONDS
  name=localhost/voluba-align/$image:dev$SUFFIX
  archive=$INTO/voluba-align-$image$SUFFIX.tar
  digest=$(sources_digest "$image")
  if [ -z "$CLEAN" ] && [ -f "$archive" ] && [ "$(cat "$archive.sources" 2>/dev/null)" = "$digest" ]; then
    say "$name is up to date"
    continue
  fi
  target=()
  if [ -z "$CLEAN" ]; then
    target=(--volume "$STORAGE/target-$image:/source/target")
    mkdir -p "$STORAGE/target-$image"
    # cargo compares times, and the sources of another checkout may be older than what was built from
    # this one: the packages of the workspace are always compiled anew.
    find "$STORAGE/target-$image" -maxdepth 4 -path '*/.fingerprint/*' \
      \( -name 'aligner-*' -o -name 'alignment-api-*' -o -name 'operator-*' \) -exec rm -rf {} +
  fi
  # --pull-never: what was pulled or made above.
  builder build --quiet --isolation chroot --pull-never "${PLATFORM[@]}" --timestamp "${SOURCE_DATE_EPOCH:-0}" --identity-label=false \
    --format oci --layers=false \
    --signature-policy "$STORAGE_POLICY" "${VOLUMES[@]}" "${target[@]}" \
    --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
    --ignorefile "$ROOT/.dockerignore" --file "$ROOT/Dockerfile.$image" --tag "$name" "$ROOT" >/dev/null
  rm -f "$archive"
  builder push --quiet --signature-policy "$STORAGE_POLICY" "$name" "oci-archive:$archive:$name"
  "$VENV/bin/python" "$ROOT/dev/image-sbom.py" "$archive" "${archive%.tar}.cdx.json"
  echo "$digest" > "$archive.sources"
  say "built $name in $((SECONDS - start)) s: ${archive#"$ROOT"/}, $(du -h "$archive" | cut -f1)"
done
# Images that a new build has replaced.
builder images --quiet --filter dangling=true 2>/dev/null | xargs -r buildah --root "$STORAGE/storage" --runroot "$STORAGE/run" \
  --storage-driver overlay rmi >/dev/null 2>&1 || true
