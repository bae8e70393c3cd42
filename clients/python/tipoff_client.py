"""Reports runs to tipoff: heartbeats while a block of code runs, and a completion when it ends.

    from tipoff_client import Client

    client = Client.http("http://127.0.0.1:8085")          # or Client.pubsub("my-project")
    with client.run("player_game_summary", phase="analytics", date="2026-01-23") as run:
        for done, player in enumerate(players, 1):
            work(player)
            run.progress(done, len(players))
        run.records = 210

An exception ends the run as failed, with its words, and goes on its way. A run lives on though nobody takes its heartbeats; a
completion that cannot be delivered within ``give_up_after`` seconds raises :class:`Undelivered` where the block itself succeeded.

Standard library only; ``Client.pubsub`` needs ``google-cloud-pubsub``.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any, Callable, Dict, Optional, Union

__all__ = ["Client", "Run", "Undelivered"]
__version__ = "0.1.0"

_log = logging.getLogger("tipoff")

#: What completions call a phase.
_PHASES = {
    "scrapers": "phase_1_scrapers",
    "raw": "phase_2_raw",
    "analytics": "phase_3_analytics",
    "precompute": "phase_4_precompute",
    "predictions": "phase_5_predictions",
    "grading": "phase_5b_grading",
    "export": "phase_6_publishing",
}

#: Topics of completions by phase, behind the name of the pipeline; see topics.yaml.
_COMPLETIONS = {
    "scrapers": "phase1-scrapers-complete",
    "raw": "phase2-raw-complete",
    "analytics": "phase3-analytics-complete",
    "precompute": "phase4-precompute-complete",
    "predictions": "phase5-predictions-complete",
    "export": "phase6-export-complete",
    "grading": "grading-complete",
}
#: The longest message of a failure that is sent; readers keep no more.
_WORDS_MAX = 1000
#: The longest wait between two tries to deliver a completion, in seconds.
_BACKOFF_MAX = 15.0

Publish = Callable[..., None]


class Undelivered(RuntimeError):
    """A run succeeded, and nobody could be told."""


class Client:
    """How messages reach tipoff. Make one for a process; it may be used from several threads."""

    def __init__(self, publish: Publish, pipeline: str = "nba", give_up_after: float = 300.0):
        """``publish(topic, body)`` returns when the broker has the message, and raises where it has not. Of a run with a
        ``traceparent`` it is called with a third argument, the attributes of the message."""
        self._publish = publish
        self.pipeline = pipeline
        self.give_up_after = give_up_after

    @classmethod
    def http(
        cls,
        url: str = "http://127.0.0.1:8085",
        token: Optional[str] = None,
        timeout: float = 10.0,
        insecure_http: bool = False,
        **rest: Any,
    ) -> "Client":
        """Straight to a tipoff on the embedded backend. ``token`` is its bearer token, if it wants one; to another machine it
        is sent over https only, unless ``insecure_http`` says that whoever is on the way there may read it."""
        base = url.rstrip("/")
        if token and not insecure_http and not _keeps_secrets(base):
            raise ValueError(
                f"{base} is another machine, and whoever is on the way there would read the token: write https, or the "
                "address of a tunnel on 127.0.0.1; insecure_http=True sends it all the same"
            )
        # A proxy of the environment is not meant for a service beside us; nor is a token for wherever an answer points to.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

        def publish(topic: str, body: Dict[str, Any], attributes: Optional[Dict[str, str]] = None) -> None:
            data = base64.b64encode(json.dumps(body).encode()).decode()
            request = urllib.request.Request(
                f"{base}/v1/projects/tipoff/topics/{topic}:publish",
                data=json.dumps({"messages": [{"data": data, "attributes": attributes or {}}]}).encode(),
                headers={"content-type": "application/json"},
            )
            if token:
                request.add_header("authorization", f"Bearer {token}")
            try:
                with opener.open(request, timeout=timeout) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                words = error.read(500).decode(errors="replace")
                raise ConnectionError(f"{error.code} {error.reason}: {words}") from None

        return cls(publish, **rest)

    @classmethod
    def pubsub(cls, project: str, timeout: float = 30.0, **rest: Any) -> "Client":
        """Over Pub/Sub. Credentials and the emulator's address are found as Google's client finds them."""
        from google.cloud import pubsub_v1  # type: ignore[import-not-found]

        publisher = pubsub_v1.PublisherClient()

        def publish(topic: str, body: Dict[str, Any], attributes: Optional[Dict[str, str]] = None) -> None:
            path, data = publisher.topic_path(project, topic), json.dumps(body).encode()
            publisher.publish(path, data, **(attributes or {})).result(timeout=timeout)

        return cls(publish, **rest)

    def run(
        self,
        node: str,
        *,
        date: Union[str, datetime.date],
        phase: Optional[str] = None,
        completions: Optional[str] = None,
        run_id: Optional[str] = None,
        dispatch_id: Optional[str] = None,
        correlation_id: Optional[str] = None,
        traceparent: Optional[str] = None,
        every: float = 60.0,
    ) -> "Run":
        """A run of ``node`` (its id, or any name pipeline.yaml has for it) about ``date``.

        ``phase`` says over which topic its completion goes, or ``completions`` names that topic. ``dispatch_id`` is
        ``body["tipoff"]["dispatch_id"]`` of the trigger that asked for the run, and ``traceparent`` its attribute or header: the
        completion goes on with that trace. A heartbeat is sent every ``every`` seconds.
        """
        if completions is None:
            if phase not in _COMPLETIONS:
                raise ValueError(f"phase is one of {', '.join(_COMPLETIONS)}, not {phase!r}; or name the topic as completions")
            completions = f"{self.pipeline}-{_COMPLETIONS[phase]}"
        if not every > 0:
            raise ValueError("every is a number of seconds above 0")
        day = date if isinstance(date, datetime.date) else datetime.date.fromisoformat(str(date))
        # Only as YYYY-MM-DD, whatever else Python reads, and whether or not an hour is with it.
        day = datetime.date(day.year, day.month, day.day).isoformat()
        run = Run(self, node, day, phase or "", completions, run_id or str(uuid.uuid4()), every)
        run.dispatch_id = dispatch_id
        run.correlation_id = correlation_id or run.run_id
        run.traceparent = traceparent
        return run


class Run:
    """One run: a context manager. Enter it once."""

    def __init__(self, client: Client, node: str, date: str, phase: str, completions: str, run_id: str, every: float):
        self._client = client
        self._heartbeats = f"{client.pipeline}-processor-heartbeats"
        self._completions = completions
        self._every = every
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._done, self._total = 0, 0
        self._started = _now()
        self.node, self.date, self.phase, self.run_id = node, date, phase, run_id
        self.dispatch_id: Optional[str] = None
        self.correlation_id: str = run_id
        self.traceparent: Optional[str] = None
        #: The rows it made, where that is known.
        self.records: Optional[int] = None

    def progress(self, done: int, total: int) -> None:
        """So many units are done, of so many. It is told with the next heartbeat."""
        self._done, self._total = int(done), int(total)

    def __enter__(self) -> "Run":
        if self._thread is not None:
            raise RuntimeError("a run is entered once")
        self._started = _now()
        self._thread = threading.Thread(target=self._beat, name=f"tipoff {self.node}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> bool:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        failed = error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0))
        body = {
            "processor_name": self.node,
            "phase": _PHASES.get(self.phase, self.phase),
            "execution_id": self.run_id,
            "correlation_id": self.correlation_id,
            "game_date": self.date,
            "status": "failed" if failed else "success",
            "timestamp": _text(_now()),
            "duration_seconds": round((_now() - self._started).total_seconds(), 3),
        }
        if self.records is not None:
            body["record_count"] = int(self.records)
        if failed:
            body["error_type"] = type(error).__name__
            words = (str(error) or type(error).__name__)[:_WORDS_MAX]
            # Half a character is no text.
            body["error_message"] = words.encode("utf-8", "replace").decode()
        self._echo(body)
        self._try_heartbeat("failed" if failed else "completed")
        delivered = self._deliver(body)
        if not delivered and error is None:
            raise Undelivered(f"the completion of {self.node} for {self.date} could not be delivered: {json.dumps(body)}")
        return False

    def _beat(self) -> None:
        while True:
            self._try_heartbeat("running")
            if self._ended.wait(self._every):
                return

    def _try_heartbeat(self, status: str) -> None:
        body = {
            "processor_name": self.node,
            "run_id": self.run_id,
            "data_date": self.date,
            "status": status,
            "started_at": _text(self._started),
            "last_heartbeat": _text(_now()),
            "progress": self._done,
            "total": self._total,
        }
        self._echo(body)
        try:
            self._publish(self._heartbeats, body)
        except Exception as error:  # the work goes on, whatever is wrong with telling of it
            _log.warning("the heartbeat of %s is not taken: %s", self.node, error)

    def _deliver(self, body: Dict[str, Any]) -> bool:
        give_up, wait = time.monotonic() + self._client.give_up_after, 0.5
        while True:
            try:
                self._publish(self._completions, body)
                return True
            except Exception as error:
                if time.monotonic() + wait >= give_up:
                    _log.error("the completion of %s could not be delivered: %s", self.node, error)
                    return False
                _log.warning("the completion of %s is not taken, and is tried again: %s", self.node, error)
            time.sleep(wait)
            wait = min(wait * 2, _BACKOFF_MAX)

    def _publish(self, topic: str, body: Dict[str, Any]) -> None:
        if self.traceparent:
            self._client._publish(topic, body, {"traceparent": self.traceparent})
        else:
            self._client._publish(topic, body)

    def _echo(self, body: Dict[str, Any]) -> None:
        if self.dispatch_id:
            body["tipoff"] = {"dispatch_id": self.dispatch_id}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that points elsewhere is an error."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _keeps_secrets(url: str) -> bool:
    """Whether nobody on the way to it can read what is sent."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _text(instant: datetime.datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
