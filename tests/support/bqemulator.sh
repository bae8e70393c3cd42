#!/usr/bin/env bash
# Installs the BigQuery emulator that the tests start, in the directory given or in target/bqemulator.
#
# The versions are pinned because the emulator does not start as it comes: it wants DuckDB's spatial extension from the
# network, where the package index has it for DuckDB 1.5.5 alone, and it uses numpy without asking for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:-target/bqemulator}
packages=(bqemulator==1.4.0 duckdb==1.5.5 duckdb-extension-spatial==1.5.5 numpy==2.3.5)
stamp="$dir/installed"
# What was installed says so last, so that a broken installation is begun again.
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "${packages[*]}" ]; then exit 0; fi
command -v python3 >/dev/null || { echo "python3 is needed for the BigQuery emulator" >&2; exit 1; }
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -qy python3-venv
fi
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
# DuckDB looks for its extensions in the home directory, so the emulator is given one of its own.
found=("$dir"/lib/python3*/site-packages/duckdb_extension_spatial/extensions/v1.5.5/spatial.duckdb_extension)
platform=$("$dir/bin/python" -c 'import duckdb; print(duckdb.sql("PRAGMA platform").fetchone()[0])')
home="$dir/home/.duckdb/extensions/v1.5.5/$platform"
mkdir -p "$home"
mv "${found[0]}" "$home/"
echo "${packages[*]}" > "$stamp"
