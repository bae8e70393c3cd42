#!/usr/bin/env bash
# Installs what faults are made with that a machine may not have: a clock that shows another time (libfaketime), a network
# that loses packets (nftables, iproute2), and the calls of a process, which say what a power cut would leave (strace), from Debian.
set -euo pipefail
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v faketime >/dev/null || ! command -v nft >/dev/null || ! command -v ip >/dev/null ||
  ! command -v strace >/dev/null; then
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -qy --no-install-recommends faketime nftables iproute2 strace
fi
