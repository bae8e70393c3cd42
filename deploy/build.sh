#!/usr/bin/env bash
# Builds the program of the image, and its list of materials (CycloneDX), into target/image or the directory given.
#
# The program is static: glibc is linked in, so the image needs neither a C library nor a loader, and names are resolved by
# what is built in ("files dns"). The same source, toolchain and C compiler make the same bytes wherever they lie: paths are
# cut off, and the only instant in it is that of the commit. deploy/Containerfile fixes the toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/image}
target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# With a target named, these reach the program and not what builds it: a procedural macro cannot be static.
export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=/tipoff --remap-path-prefix=$cargo_home=/cargo"
export CFLAGS="-ffile-prefix-map=$PWD=/tipoff -ffile-prefix-map=$cargo_home=/cargo"
# What tipoff_build_info says it was built from.
export TIPOFF_SOURCE=${TIPOFF_SOURCE:-$(git rev-parse HEAD)}
export CARGO_INCREMENTAL=0 TZ=UTC LC_ALL=C
cargo build --release --locked --bin tipoff --target "$target"
mkdir -p "$out"
install -m 0755 "target/$target/release/tipoff" "$out/tipoff"
if command -v cargo-cyclonedx >/dev/null; then
  # It writes beside each manifest, whatever one says.
  cargo cyclonedx --format json --target "$target" --override-filename tipoff.cdx >/dev/null
  sed "s|file://$PWD|file:///tipoff|g" tipoff.cdx.json > "$out/tipoff.cdx.json"
  rm tipoff.cdx.json src/domain/tipoff.cdx.json
else
  echo "NO LIST OF MATERIALS: cargo install cargo-cyclonedx@0.5.9 --locked" >&2
  [ "${SBOM:-wanted}" = none ] || exit 1
fi
(cd "$out" && sha256sum tipoff*)
