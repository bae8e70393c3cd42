#!/usr/bin/env bash
# Makes the composite indexes and the expiry policies of deploy/firestore.indexes.json in the Firestore of
# $GOOGLE_CLOUD_PROJECT. What is there already is left as it is. An index takes minutes until it answers.
set -euo pipefail

usage() {
  cat <<'END'
deploy/firestore.sh [--prefix PREFIX] [--print] [DATABASE]

Makes indexes and expiry policies in a database of $GOOGLE_CLOUD_PROJECT, `(default)` where none is named.

  --prefix PREFIX  what collections begin with: tipoff_, as it is where nothing is said; tipoff_shadow_ for a shadow;
                   else google.prefix of tipoff.yaml
  --print          prints the calls of gcloud, and makes none
END
}

wrong() {
  echo "$1" >&2
  usage >&2
  exit 2
}

prefix=tipoff_ database='(default)' prints=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit ;;
    --prefix) prefix=${2:-}; shift ;;
    --prefix=*) prefix=${1#*=} ;;
    --print) prints=yes ;;
    -*) wrong "$1 is no option" ;;
    *) database=$1 ;;
  esac
  shift || wrong "--prefix: which?"
done
[[ $prefix =~ ^[a-z][a-z0-9_]*$ ]] || wrong "--prefix is of small letters, digits and underscores, not \`$prefix\`"
[ -n "$prints" ] || : "${GOOGLE_CLOUD_PROJECT:?names the project}"
cd "$(dirname "$0")"
PREFIX=$prefix python3 - <<'END' | while read -r line; do
import json
import os

declared = json.load(open("firestore.indexes.json"))
group = lambda it: os.environ["PREFIX"] + it["collectionGroup"].removeprefix("tipoff_")
for index in declared["indexes"]:
    fields = " ".join(f"--field-config=field-path={f['fieldPath']},order={f['order'].lower()}" for f in index["fields"])
    print(f"indexes composite create --collection-group={group(index)} --query-scope=collection {fields}")
for field in declared["fieldOverrides"]:
    if field["ttl"]:
        print(f"fields ttls update {field['fieldPath']} --collection-group={group(field)} --enable-ttl")
    else:
        print(f"indexes fields update {field['fieldPath']} --collection-group={group(field)} --disable-indexes")
END
  echo "gcloud firestore $line --database=$database"
  [ -z "$prints" ] || continue
  # Words without spaces, so they may be split.
  # shellcheck disable=SC2086
  if ! said=$(gcloud firestore $line --project="$GOOGLE_CLOUD_PROJECT" --database="$database" --async --quiet \
    </dev/null 2>&1) && [[ $said != *"already exists"* ]]; then
    echo "$said" >&2
    exit 1
  fi
done
