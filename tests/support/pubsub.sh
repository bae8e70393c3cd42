#!/usr/bin/env bash
# Runs Google's Pub/Sub emulator at the address given, or at 127.0.0.1:8681, mended by emulator/io/grpc/InternalStatus.java:
# as it comes, it never notices that a subscriber has gone, and goes on sending it messages that nobody sees.
set -euo pipefail
cd "$(dirname "$0")/../.."
address=${1:-127.0.0.1:8681}
gcloud=$(command -v gcloud) || { echo "the Google Cloud SDK is not installed" >&2; exit 1; }
root=$(dirname "$(dirname "$(readlink -f "$gcloud")")")
jars=("$root"/platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar)
[ -f "${jars[0]}" ] || { echo "it is not installed: gcloud components install pubsub-emulator" >&2; exit 1; }
mkdir -p target/pubsub-emulator
javac -cp "${jars[0]}" -d target/pubsub-emulator tests/support/emulator/io/grpc/InternalStatus.java
exec java -cp "target/pubsub-emulator:${jars[0]}" com.google.cloud.pubsub.testing.v1.Main \
  --host="${address%:*}" --port="${address##*:}"
