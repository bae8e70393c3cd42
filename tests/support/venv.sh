# To be sourced: pinned Python packages in a directory of their own.

# `installed DIR PACKAGE…`: whether exactly these are there.
installed() {
  [ -f "$1/installed" ] && [ "$(cat "$1/installed")" = "${*:2}" ]
}

# `install DIR PACKAGE…`: puts them there, in place of whatever was. The caller says `finished` when nothing is left to do,
# so that a broken installation is begun again.
install() {
  command -v python3 >/dev/null || { echo "python3 is needed for $1" >&2; exit 1; }
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -qy python3-venv
  fi
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}

# `finished DIR PACKAGE…`: they are there.
finished() {
  echo "${*:2}" > "$1/installed"
}
