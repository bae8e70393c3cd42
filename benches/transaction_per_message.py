"""The design that tipoff replaces, as a reference: one Firestore transaction for each completion.

Reads the subscription SUBSCRIPTION with Google's own client. A completion is entered into the document of its date; when
the document has all of EXPECTED, a trigger is published. What the functions did besides, such as questions to the
warehouse before the trigger, is left out, and it takes one message at a time: side by side its transactions refuse each
other until they give up. So this is their design at its fastest. Prints a line when it reads, and one
with the seconds it took when it has acknowledged COUNT messages.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from google.cloud import firestore, pubsub_v1

project, subscription, topic, expected, count = sys.argv[1:]
expected, count = set(expected.split(",")), int(count)

store = firestore.Client(project=project, database="(default)")
publisher = pubsub_v1.PublisherClient()
subscriber = pubsub_v1.SubscriberClient()
target = publisher.topic_path(project, topic)

lock = threading.Lock()
begun, done = 0.0, 0


@firestore.transactional
def enter(transaction, document, completion):
    """Whether this completion is the one that makes its date whole."""
    snapshot = document.get(transaction=transaction)
    found = snapshot.to_dict() if snapshot.exists else {}
    name = completion["processor_name"]
    if name in found:
        return False
    found[name] = {
        "completed_at": datetime.now(timezone.utc),
        "correlation_id": completion["correlation_id"],
        "status": completion["status"],
        "record_count": completion["record_count"],
    }
    whole = expected <= set(found) and not found.get("_triggered")
    found["_completed_count"] = sum(1 for key in found if not key.startswith("_"))
    if whole:
        found["_triggered"] = True
    transaction.set(document, found)
    return whole


def receive(message):
    global begun, done
    with lock:
        begun = begun or time.monotonic()
    try:
        completion = json.loads(message.data)
        document = store.collection("phase2_completion").document(completion["game_date"])
        if enter(store.transaction(), document, completion):
            trigger = {"game_date": completion["game_date"], "correlation_id": completion["correlation_id"]}
            publisher.publish(target, json.dumps(trigger).encode()).result()
        message.ack()
    except Exception as error:  # As the functions do: it comes again.
        print(error, file=sys.stderr)
        message.nack()
        return
    with lock:
        done += 1
        if done == count:
            print(time.monotonic() - begun, flush=True)


one = pubsub_v1.subscriber.scheduler.ThreadScheduler(ThreadPoolExecutor(max_workers=1))
reading = subscriber.subscribe(subscriber.subscription_path(project, subscription), receive, scheduler=one)
print("reading", flush=True)
reading.result()
