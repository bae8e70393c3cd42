#!/usr/bin/env bash
# Installs Google's Python clients, with which real producers publish, in the directory given or in target/producers.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/support/venv.sh
dir=${1:-target/producers}
packages=(google-cloud-pubsub==2.44.0 google-cloud-firestore==2.34.1)
installed "$dir" "${packages[@]}" && exit 0
install "$dir" "${packages[@]}"
finished "$dir" "${packages[@]}"
