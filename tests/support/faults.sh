#!/usr/bin/env bash
# Installs what faults are made with that a machine may not have: a clock that shows another time (libfaketime), and a network
# that loses packets (nftables, iproute2), from Debian.
set -euo pipefail
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v faketime >/dev/null || ! command -v nft >/dev/null || ! command -v ip >/dev/null; then
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -qy --no-install-recommends faketime nftables iproute2
fi
