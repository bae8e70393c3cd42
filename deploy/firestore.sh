#!/usr/bin/env bash
# Makes the composite indexes and the expiry policies of deploy/firestore.indexes.json in the Firestore of
# $GOOGLE_CLOUD_PROJECT. What is there already is left as it is. An index takes minutes until it answers.
set -euo pipefail
cd "$(dirname "$0")"
: "${GOOGLE_CLOUD_PROJECT:?names the project}"
database=${1:-(default)}
python3 - <<'END' | while read -r line; do
import json

declared = json.load(open("firestore.indexes.json"))
for index in declared["indexes"]:
    fields = " ".join(f"--field-config=field-path={f['fieldPath']},order={f['order'].lower()}" for f in index["fields"])
    print(f"indexes composite create --collection-group={index['collectionGroup']} --query-scope=collection {fields}")
for field in declared["fieldOverrides"]:
    if field["ttl"]:
        print(f"fields ttls update {field['fieldPath']} --collection-group={field['collectionGroup']} --enable-ttl")
    else:
        print(f"indexes fields update {field['fieldPath']} --collection-group={field['collectionGroup']} --disable-indexes")
END
  echo "gcloud firestore $line"
  # Words without spaces, so they may be split.
  # shellcheck disable=SC2086
  if ! said=$(gcloud firestore $line --project="$GOOGLE_CLOUD_PROJECT" --database="$database" --async --quiet \
    </dev/null 2>&1) && [[ $said != *"already exists"* ]]; then
    echo "$said" >&2
    exit 1
  fi
done
