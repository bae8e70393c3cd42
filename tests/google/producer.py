"""Processors as they are written today, on Google's own clients: completions over Pub/Sub, heartbeats into Firestore.

Called by the test with a verb and its arguments; the emulators are in the environment.
"""

import json
import sys
from datetime import datetime, timezone

from google.cloud import firestore, pubsub_v1

PROJECT = "tipoff-test"


def publish(topic, message):
    client = pubsub_v1.PublisherClient()
    path = client.topic_path(PROJECT, topic)
    print(client.publish(path, json.dumps(message).encode()).result(timeout=30))


def completed(topic, name, phase, run, date, table, records):
    """Publishes the unified completion message, as shared/publishers does."""
    publish(topic, {
        "processor_name": name, "phase": phase, "execution_id": run, "correlation_id": run, "game_date": date,
        "output_table": table, "output_dataset": table.split(".")[0], "status": "success",
        "record_count": int(records), "records_failed": 0, "timestamp": datetime.now(timezone.utc).isoformat(),
        "duration_seconds": 28.9, "trigger_source": "pubsub", "metadata": {"is_incremental": True},
    })


def heartbeat(document, name, run, date, status, progress, total):
    """Writes a heartbeat with set(merge=True), as shared/monitoring/processor_heartbeat.py does."""
    now = datetime.now(timezone.utc)
    firestore.Client(project=PROJECT).collection("processor_heartbeats").document(document).set({
        "processor_name": name, "run_id": run, "data_date": date, "last_heartbeat": now, "started_at": now,
        "status": status, "progress": int(progress), "total": int(total), "status_message": "Processing players",
        "updated_at": now,
    }, merge=True)


def beat(topic, name, run, date):
    publish(topic, {"processor_name": name, "run_id": run, "data_date": date, "status": "running",
                    "last_heartbeat": datetime.now(timezone.utc).isoformat(), "progress": 60, "total": 100})


def lock(name, date):
    """Takes the lock that the analytics base class takes before it works."""
    firestore.Client(project=PROJECT).collection("processing_locks").document(f"{name}_{date}").set({
        "processor": name, "game_date": date, "acquired_at": datetime.now(timezone.utc),
    })


def locked(name, date):
    found = firestore.Client(project=PROJECT).collection("processing_locks").document(f"{name}_{date}").get()
    print("locked" if found.exists else "free")


if __name__ == "__main__":
    verbs = {"completed": completed, "heartbeat": heartbeat, "beat": beat, "lock": lock, "locked": locked}
    verbs[sys.argv[1]](*sys.argv[2:])
