#!/usr/bin/env bash
# Installs the BigQuery emulator that the tests start, in the directory given or in target/bqemulator.
#
# The versions are pinned because the emulator does not start as it comes: it wants DuckDB's spatial extension from the
# network, where the package index has it for DuckDB 1.5.5 alone, and it uses numpy without asking for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/support/venv.sh
dir=${1:-target/bqemulator}
packages=(bqemulator==1.4.0 duckdb==1.5.5 duckdb-extension-spatial==1.5.5 numpy==2.3.5)
installed "$dir" "${packages[@]}" && exit 0
install "$dir" "${packages[@]}"
# DuckDB looks for its extensions in the home directory, so the emulator is given one of its own.
found=("$dir"/lib/python3*/site-packages/duckdb_extension_spatial/extensions/v1.5.5/spatial.duckdb_extension)
platform=$("$dir/bin/python" -c 'import duckdb; print(duckdb.sql("PRAGMA platform").fetchone()[0])')
home="$dir/home/.duckdb/extensions/v1.5.5/$platform"
mkdir -p "$home"
mv "${found[0]}" "$home/"
finished "$dir" "${packages[@]}"
