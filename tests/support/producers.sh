#!/usr/bin/env bash
# Installs Google's Python clients, with which real producers publish, in the directory given or in target/producers.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:-target/producers}
packages=(google-cloud-pubsub==2.44.0 google-cloud-firestore==2.34.1)
stamp="$dir/installed"
# What was installed says so last, so that a broken installation is begun again.
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "${packages[*]}" ]; then exit 0; fi
command -v python3 >/dev/null || { echo "python3 is needed for the producers" >&2; exit 1; }
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -qy python3-venv
fi
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
echo "${packages[*]}" > "$stamp"
