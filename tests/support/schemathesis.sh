#!/usr/bin/env bash
# Installs the fuzzer of the API in the directory given or in target/schemathesis.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/support/venv.sh
dir=${1:-target/schemathesis}
packages=(schemathesis==4.32.5)
installed "$dir" "${packages[@]}" && exit 0
install "$dir" "${packages[@]}"
finished "$dir" "${packages[@]}"
