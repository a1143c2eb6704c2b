"""What `gpu-telemetry top` sees each time it looks: the admin port's answers, and how the queue stands."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import urllib3

from local_runtime.commands.output import format_bytes
from shared.client import Client, Json
from shared.errors import PipelineError, Transient

#: Of the last scaling decisions.
SHOWN_EVENTS = 5
#: More than the widest terminal shows.
_REMEMBERED = 400
#: Whoever serves the metrics asks etcd first; a screen does not wait for it.
_METRICS_TIMEOUT_S = 1.0
_GAUGE = re.compile(r"^gpu_telemetry_(\w+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a runtime."""

    #: Epoch seconds.
    at_s: float
    services: Sequence[Json]
    #: What is no service: etcd and the sources.
    processes: Sequence[Json]
    #: Scaling decisions, the newest last.
    events: Sequence[Json]
    #: The queue source's gauges by name; None where nobody tells.
    queue: Mapping[str, float] | None


class Looker:
    """Looks at one runtime, and wakes nothing: the queue source always runs, which no function does."""

    def __init__(self, client: Client, metrics_url: str | None) -> None:
        """Look at nothing yet.

        Args:
            client: Of the admin port.
            metrics_url: Where the queue source serves its metrics; None: nowhere.
        """
        self._client = client
        self._metrics_url = metrics_url
        self._http = urllib3.PoolManager(retries=False, timeout=_METRICS_TIMEOUT_S)
        self._has_seen = False

    def look(self, at_s: float) -> Look:
        """Look.

        Raises:
            Transient: There is no runtime, or not any more.
            PipelineError: What answers is none.
        """
        try:
            answer = self._client.read("/services")
            events = self._client.read("/events")
        except Transient as exc:
            if not self._has_seen:
                raise
            raise Transient(
                f"the runtime at {self._client.url} is gone: `gpu-telemetry up` starts one"
            ) from exc
        if not isinstance(answer.get("services"), list):
            raise PipelineError(
                f"{self._client.url} tells of no services: it is not the admin port of a runtime"
            )
        self._has_seen = True
        return Look(
            at_s=at_s,
            services=answer["services"],
            processes=answer.get("processes", []),
            events=events.get("events", []),
            queue=self._read_queue(),
        )

    def _read_queue(self) -> Mapping[str, float] | None:
        if self._metrics_url is None:
            return None
        try:
            answer = self._http.request("GET", self._metrics_url)
        except urllib3.exceptions.HTTPError:
            return None
        return parse_gauges(answer.data.decode(errors="replace")) if answer.status == 200 else None  # noqa: PLR2004


class History:
    """Rows per second of each service, as long as somebody looks."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def add(self, look: Look) -> None:
        """Remember what a look has shown."""
        for service in look.services:
            self._rows[service["name"]].append(service.get("rows_per_s") or 0.0)

    def read_rows(self, service: str, count: int) -> list[float]:
        """Return the last readings, the oldest first."""
        return list(self._rows[service])[-count:]


def parse_gauges(text: str) -> dict[str, float]:
    """Read our gauges that have no labels from a page for Prometheus, by what follows `gpu_telemetry_`."""
    return {name: float(value) for name, value in _GAUGE.findall(text)}


def describe_note(service: Json) -> str:
    """Say in a word what is worth attention of a service."""
    if service.get("panic"):
        return "panic"
    return "crashing" if any(i.get("state") == "backoff" for i in service.get("instances", ())) else ""


def describe_queue(queue: Mapping[str, float] | None) -> str:
    """Say how the queue stands."""
    if queue is None:
        return "not known: the queue source does not tell"
    if "queue_depth" not in queue:
        return "not known: etcd is away"
    depth = queue["queue_depth"]
    said = [f"{depth:,.0f} messages"]
    if depth:
        said = [
            f"{depth:,.0f} messages ({format_bytes(queue.get('queue_bytes', 0))})",
            f"oldest {queue.get('queue_oldest_message_age_seconds', 0):.1f} s",
            f"{queue.get('queue_claimed', 0):,.0f} claimed",
        ]
    if queue.get("dead_letters"):
        said.append(f"{queue['dead_letters']:,.0f} dead letters")
    return ", ".join(said)


def describe_database(queue: Mapping[str, float] | None) -> str:
    """Say how large etcd's file is, and how large it may become; nothing where that is not known."""
    if queue is None or "etcd_database_bytes" not in queue:
        return ""
    quota = queue.get("etcd_quota_bytes")
    return f"database {format_bytes(queue['etcd_database_bytes'])}" + (
        f" of {format_bytes(quota)}" if quota else ""
    )


def describe_process(process: Json) -> str:
    """Say how a process is that is no service."""
    restarts = process.get("restarts")
    return f"{process['name']} {'ready' if process.get('ready') else 'away'}" + (
        f" ({restarts} restarts)" if restarts else ""
    )


def describe_event(event: Json) -> tuple[str, str, str, str]:
    """Write a scaling decision: when, which service, from how many to how many, and why."""
    try:
        at = f"{datetime.fromisoformat(event['at']).astimezone():%H:%M:%S}"
    except (KeyError, ValueError):
        at = ""
    before, after = event.get("from"), event.get("to")
    change = f"{before} -> {after}" if before != after else str(event.get("action", ""))
    return at, str(event.get("service", "")), change, str(event.get("reason", ""))
