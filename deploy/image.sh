#!/usr/bin/env bash
# Builds the container image without root, with podman, buildah or docker, whichever is there.
#
#   deploy/image.sh               builds everything in containers, by deploy/Containerfile
#   deploy/image.sh --host        builds the program here (deploy/build.sh) and an image from scratch around it: for a machine
#                                 that reaches no registry. Certificates are this machine's.
#
# Environment: TAG (tipoff:VERSION), RUST and BASE (the bases, by digest), TOOL, SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "$0")/.."
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
if [ "${1:-}" = --host ]; then
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  deploy/build.sh "$context/out"
  mkdir "$context/out/data"
  cp /etc/ssl/certs/ca-certificates.crt "$context/out/"
  # The last stage, with what is built here in place of what a stage before it has built.
  {
    echo "FROM scratch"
    sed '1,/^FROM \${BASE}$/d; s|--from=build \(.*\)/out/|\1out/|' deploy/Containerfile
    echo "COPY out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt"
  } > "$context/Containerfile"
  "${build[@]}" --file "$context/Containerfile" "$context"
else
  [ -z "${RUST:-}" ] || build+=(--build-arg RUST="$RUST")
  [ -z "${BASE:-}" ] || build+=(--build-arg BASE="$BASE")
  [[ ${BASE:-} == *@sha256:* && ${RUST:-} == *@sha256:* ]] ||
    echo "The bases are named by tags, which may become others: set RUST and BASE, each with its @sha256:…" >&2
  "${build[@]}" --file deploy/Containerfile .
fi
echo "$tag"
