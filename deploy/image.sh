#!/usr/bin/env bash
# Builds the container image without root, with podman, buildah or docker, whichever is there.
#
#   deploy/image.sh               builds everything in containers, by deploy/Containerfile
#   deploy/image.sh --host        builds the program here (deploy/build.sh) and an image from scratch around it: for a machine
#                                 that reaches no registry. Certificates are this machine's.
#   deploy/image.sh --push REF    then pushes it as REF, REGISTRY/tipoff:VERSION, with the login that the tool has
#
# The last line of stdout is the image by its digest: REF@sha256:… once it is pushed, which is what Terraform is given;
# TAG@sha256:… before, which is this machine's digest. A registry has another, since layers are compressed on the way.
#
# Environment: TAG (tipoff:VERSION), RUST and BASE (the bases, by digest), TOOL, SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "$0")/.."
host='' ref=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p;}' "deploy/$(basename "$0")"; exit ;;
    --host) host=yes ;;
    --push) ref=${2:?--push REGISTRY/tipoff:VERSION}; shift ;;
    *) echo "$1: deploy/image.sh [--host] [--push REF]" >&2; exit 2 ;;
  esac
  shift
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
tag=${TAG:-tipoff:$version}
revision=$(git rev-parse HEAD)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
tool=${TOOL:-}
for found in podman buildah docker; do
  [ -n "$tool" ] || ! command -v "$found" >/dev/null || tool=$found
done
[ -n "$tool" ] || { echo "none of podman, buildah and docker is installed" >&2; exit 1; }
case $tool in
  # Every instant in the image is that of the commit, so that equal content is an equal digest.
  podman | buildah) build=("$tool" build --format=oci --timestamp "$SOURCE_DATE_EPOCH") ;;
  docker) build=(docker buildx build --load --output "type=docker,rewrite-timestamp=true") ;;
  *) echo "$tool is not one of podman, buildah and docker" >&2; exit 1 ;;
esac
build+=(--tag "$tag" --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" --build-arg REVISION="$revision")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -n "$host" ]; then
  context=$scratch/context
  mkdir "$context"
  deploy/build.sh "$context/out" >&2
  mkdir "$context/out/data"
  cp /etc/ssl/certs/ca-certificates.crt "$context/out/"
  # The last stage, with what is built here in place of what a stage before it has built.
  {
    echo "FROM scratch"
    sed '1,/^FROM \${BASE}$/d; s|--from=build \(.*\)/out/|\1out/|' deploy/Containerfile
    echo "COPY out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt"
  } > "$context/Containerfile"
  "${build[@]}" --file "$context/Containerfile" "$context" >&2
else
  [ -z "${RUST:-}" ] || build+=(--build-arg RUST="$RUST")
  [ -z "${BASE:-}" ] || build+=(--build-arg BASE="$BASE")
  [[ ${BASE:-} == *@sha256:* && ${RUST:-} == *@sha256:* ]] ||
    echo "The bases are named by tags, which may become others: set RUST and BASE, each with its @sha256:…" >&2
  "${build[@]}" --file deploy/Containerfile . >&2
fi
name=$tag
case $tool in
  podman) digest=$(podman image inspect --format '{{.Digest}}' "$tag") ;;
  buildah) digest=$(buildah inspect --type image --format '{{.FromImageDigest}}' "$tag") ;;
  docker) digest=$(docker image inspect --format '{{.Id}}' "$tag") ;;
esac
if [ -n "$ref" ]; then
  name=$ref
  case $tool in
    podman | buildah)
      "$tool" push --digestfile "$scratch/digest" "$tag" "$ref" >&2
      digest=$(cat "$scratch/digest")
      ;;
    docker)
      docker tag "$tag" "$ref"
      docker push "$ref" | tee "$scratch/pushed" >&2
      digest=$(sed -n 's/.*digest: \(sha256:[0-9a-f]*\).*/\1/p' "$scratch/pushed" | tail -1)
      ;;
  esac
else
  echo "Pushed nowhere: --push REGISTRY/tipoff:VERSION pushes it, and prints the digest that a registry knows." >&2
fi
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "$tool tells no digest: \`$digest\`" >&2; exit 1; }
# Without the tag, which says nothing beside a digest; a colon before a slash is that of a port.
[[ ${name##*/} != *:* ]] || name=${name%:*}
echo "$name@$digest"
