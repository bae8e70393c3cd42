#!/usr/bin/env bash
# Installs what the pages are tested with: Chromium with its driver, from Debian, and axe-core, which finds what keeps people
# from using a page, in the directory given or in target/axe.
set -euo pipefail
cd "$(dirname "$0")/../.."
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -qy --no-install-recommends chromium chromium-driver fonts-dejavu-core
fi
dir=${1:-target/axe}
version=4.14.1
digest=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
check() { echo "$digest  $dir/axe.min.js" | sha256sum --check --status; }
if [ -f "$dir/axe.min.js" ] && check; then exit 0; fi
command -v npm >/dev/null || "${as_root[@]}" apt-get install -qy --no-install-recommends npm
mkdir -p "$dir"
pack=$(cd "$dir" && npm pack --silent "axe-core@$version")
tar -xzf "$dir/$pack" -C "$dir" --strip-components=1 package/axe.min.js package/LICENSE
rm "$dir/$pack"
check || { echo "axe-core $version is not what it was" >&2; exit 1; }
