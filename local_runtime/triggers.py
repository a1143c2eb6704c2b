"""PingSource: cron that sends CloudEvents, with the timing and the retries of Knative's own."""

from __future__ import annotations

import base64
import json
import random
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import urllib3
from croniter import croniter
from croniter.croniter import CroniterError

from local_runtime.manifests import PingSource
from shared import clock
from shared.errors import BadConfig
from shared.tokens import ROLES_OF_SOURCES, TokenFile

#: Waits before the second to the sixth attempt; then the tick is lost.
RETRY_DELAYS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
RETRIED_STATUSES = frozenset({404, 413, 425, 429, 502, 503, 504})
#: Sources that fire at the same second do not all post at once.
LONGEST_JITTER_S = 0.5
_FIELDS = (5, 6)
#: What croniter would take beyond what Knative's parser does (L, W, # and random fields) is refused.
_EXPRESSION = re.compile(r"[0-9A-Za-z*?/,\-]+")
_NAMES = re.compile(
    r"JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|SUN|MON|TUE|WED|THU|FRI|SAT", re.IGNORECASE
)
_ALIASES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A PingSource that is ready to fire."""

    name: str
    schedule: str
    timezone: ZoneInfo
    url: str
    #: The headers every event carries.
    headers: dict[str, str]
    body: bytes
    #: How long one attempt may take, as long as the function that is called may.
    timeout_s: float

    def next_tick_s(self, after_s: float) -> float:
        """Return the first tick strictly after a time, both in epoch seconds."""
        after = datetime.fromtimestamp(after_s, self.timezone)
        return float(croniter(self.schedule, after, second_at_beginning=True).get_next(float))


def parse_schedule(schedule: str) -> str:
    """Check a schedule the way Knative does: 5 fields, or 6 with the seconds first, or an alias.

    Raises:
        ValueError: Says what is expected.
    """
    text = schedule.strip()
    if text.startswith("@"):
        if text not in _ALIASES:
            raise ValueError(f"{text!r} is not one of {', '.join(_ALIASES)}")
        return text
    fields = text.split()
    if len(fields) not in _FIELDS:
        raise ValueError(f"{schedule!r} has {len(fields)} fields, not 5 (or 6 with the seconds first)")
    for field in fields:
        letters = _NAMES.sub("", field)
        if _EXPRESSION.fullmatch(field) is None or re.search("[A-Za-z]", letters):
            raise ValueError(f"{schedule!r}: {field!r} is not understood")
    if re.search(r"[7-9]", re.sub(r"/\d+", "", fields[-1])):
        raise ValueError(f"{schedule!r}: the day of the week is 0 to 6")
    expression = " ".join(fields).replace("?", "*")
    try:
        croniter(expression, 0, second_at_beginning=True)
    except (CroniterError, ValueError) as exc:
        raise ValueError(f"{schedule!r}: {exc}") from exc
    return expression


def parse_body(source: PingSource) -> bytes:
    """Return the body of a source's events.

    Raises:
        ValueError: Both data and dataBase64, or application/json that is not a JSON object.
    """
    spec = source.spec
    if spec.data and spec.data_base64:
        raise ValueError("data and dataBase64 exclude each other")
    body = base64.b64decode(spec.data_base64, validate=True) if spec.data_base64 else spec.data.encode()
    if spec.content_type == "application/json" and body and not isinstance(json.loads(body), dict):
        raise ValueError("data of application/json must be a JSON object")
    return body


def parse_cron(source: PingSource, url: str, *, timeout_s: float) -> Cron:
    """Check a PingSource and make it ready to fire at an address.

    Raises:
        BadConfig: Names the source and what is wrong.
    """
    name = source.metadata.name
    try:
        return Cron(
            name=name,
            schedule=parse_schedule(source.spec.schedule),
            timezone=ZoneInfo(source.spec.timezone or "UTC"),
            url=url,
            headers={
                "content-type": source.spec.content_type or "text/plain",
                "ce-specversion": "1.0",
                "ce-type": "dev.knative.sources.ping",
                "ce-source": f"/apis/v1/namespaces/{source.metadata.namespace}/pingsources/{name}",
            },
            body=parse_body(source),
            timeout_s=timeout_s,
        )
    except (ValueError, OSError, KeyError) as exc:
        raise BadConfig(f"PingSource {name}: {exc}") from exc


def decide_retry_s(attempt: int, status: int | None) -> float | None:
    """Decide how long to wait before another attempt; None: do not try again.

    Args:
        attempt: Attempts made so far, at least 1.
        status: What was answered; None when nothing was.
    """
    if status is not None and status not in RETRIED_STATUSES:
        return None
    return RETRY_DELAYS_S[attempt - 1] if attempt <= len(RETRY_DELAYS_S) else None


class Poster:
    """Posts events, each in a thread of its own: a slow function holds up neither the loop nor a tick."""

    def __init__(self, report: Callable[[str, str], None], tokens: TokenFile | None = None) -> None:
        """Make a poster.

        Args:
            report: Told (name, sentence) of a tick that was lost; called from any thread.
            tokens: Where the token is from that events carry; None: they carry none.
        """
        self._report = report
        self._tokens = tokens
        self._stopping = threading.Event()
        self._http = urllib3.PoolManager(retries=False, maxsize=4)

    def fire(self, cron: Cron) -> None:
        """Post one event and return at once; ticks may overlap."""
        threading.Thread(target=self._post, args=(cron,), name=f"cron-{cron.name}", daemon=True).start()

    def stop(self) -> None:
        """Make no further attempt; requests under way are left to the functions, which finish them."""
        self._stopping.set()

    def _post(self, cron: Cron) -> None:
        headers = {**cron.headers, "ce-id": str(uuid.uuid4()), "ce-time": _format_now()}
        delay_s: float | None = random.uniform(0, LONGEST_JITTER_S)
        attempt, outcome = 0, ""
        while delay_s is not None:
            if self._stopping.wait(delay_s):
                return
            attempt += 1
            status, outcome = self._attempt(cron, headers)
            if status is not None and status < 300:  # noqa: PLR2004
                return
            delay_s = decide_retry_s(attempt, status)
        if not self._stopping.is_set():
            self._report(cron.name, f"tick lost after {attempt} attempts: {outcome}")

    def _attempt(self, cron: Cron, headers: dict[str, str]) -> tuple[int | None, str]:
        try:
            own = {} if self._tokens is None else self._tokens.headers(*ROLES_OF_SOURCES)
            answer = self._http.request(
                "POST",
                cron.url,
                body=cron.body,
                headers={**headers, **own},
                timeout=urllib3.Timeout(connect=5.0, read=cron.timeout_s),
                redirect=False,
            )
        except BadConfig as exc:
            return None, exc.message
        except urllib3.exceptions.HTTPError as exc:
            return None, f"{cron.url} cannot be reached ({type(exc).__name__})"
        return answer.status, f"{cron.url} answered {answer.status}"


def _format_now() -> str:
    return (
        datetime.fromtimestamp(clock.now_s(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
