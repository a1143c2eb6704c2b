"""The sink: where the queue source posts its events, as Knative tells it.

K_SINK is the address; K_CE_OVERRIDES is JSON with extensions that every event carries; K_CA_CERTS is PEM with
authorities that an https sink may be vouched for by, besides those of the system.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import orjson
import urllib3

from functions.collect.events import MESSAGES_TYPE, build_messages
from shared import clock
from shared.cloudevents import build_extension_headers, format_time
from shared.errors import BadConfig
from shared.queue import ReadyMessage
from shared.tokens import ROLES_OF_SOURCES, TokenFile

#: Seconds one request may take. Collect works for 25 s at most and answers then, so that after so long no
#: answer will come. What it still holds a claim on is not dealt again; the rest must not wait until its
#: timeoutSeconds are over.
REQUEST_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 2.0
_OK = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an event."""

    #: Empty where it was taken.
    failure: str = ""
    #: Seconds of the pause that was asked for.
    retry_after_s: float = 0.0


class Sink:
    """Posts events to one address; safe to share between threads."""

    def __init__(
        self,
        url: str,
        *,
        extensions: Mapping[str, str] | None = None,
        ca_certs: str = "",
        tokens: TokenFile | None = None,
        connections: int = 1,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Make a sink.

        Args:
            url: Where events are posted.
            extensions: Attributes by name that every event carries.
            ca_certs: PEM; those who may vouch for the sink besides the system's authorities.
            tokens: Where the token is from that requests carry; None: they carry none.
            connections: Connections that are kept.
            timeout_s: Seconds for which an answer is waited for.

        Raises:
            BadConfig: One of these cannot be used; names the variable.
        """
        try:
            parsed = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError:
            parsed = urllib3.util.parse_url("")
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise BadConfig(f"K_SINK={url!r}: expected the address of collect, such as http://127.0.0.1:8082")
        try:
            self._extensions = build_extension_headers(extensions or {})
        except ValueError as exc:
            raise BadConfig(f"K_CE_OVERRIDES: {exc}") from exc
        self._url = url
        self._tokens = tokens
        self._timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=timeout_s)
        self._http = urllib3.PoolManager(
            maxsize=connections, retries=False, ssl_context=_build_ssl_context(ca_certs) if ca_certs else None
        )

    @classmethod
    def parse(
        cls, url: str, overrides: str, ca_certs: str, *, tokens: TokenFile | None, connections: int
    ) -> Self:
        """Make a sink of K_SINK, K_CE_OVERRIDES and K_CA_CERTS.

        Raises:
            BadConfig: One of these cannot be used; names the variable.
        """
        return cls(
            url,
            extensions=parse_overrides(overrides),
            ca_certs=ca_certs,
            tokens=tokens,
            connections=connections,
        )

    def post(self, messages: Sequence[ReadyMessage]) -> Outcome:
        """Tell collect to take these messages, and wait for its answer."""
        try:
            answer = self._http.request(
                "POST",
                self._url,
                body=orjson.dumps(build_messages(messages)),
                headers={
                    "ce-specversion": "1.0",
                    "ce-id": build_event_id(messages),
                    "ce-type": MESSAGES_TYPE,
                    "ce-source": "/queue",
                    "ce-time": format_time(clock.now_s()),
                    "content-type": "application/json",
                    **self._extensions,
                    **({} if self._tokens is None else self._tokens.headers(*ROLES_OF_SOURCES)),
                },
                timeout=self._timeout,
            )
        except BadConfig as exc:
            return Outcome(failure=exc.message)
        except urllib3.exceptions.ReadTimeoutError:
            return Outcome(failure=f"collect did not answer within {self._timeout.read_timeout:g} s")
        except urllib3.exceptions.HTTPError as exc:
            return Outcome(failure=f"collect cannot be reached: {type(exc).__name__}")
        if answer.status in _OK:
            return Outcome()
        return Outcome(
            failure=f"collect answered {answer.status}",
            retry_after_s=_parse_retry_after_s(answer.headers.get("retry-after", "")),
        )


def build_event_id(messages: Sequence[ReadyMessage]) -> str:
    """Build an event's id of all keys and revisions it names: others are another event, whatever is first."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(f"{m.id}@{m.revision}" for m in messages)))


def parse_overrides(text: str) -> dict[str, str]:
    """Read the extensions of K_CE_OVERRIDES, `{"extensions": {"name": "value"}}`; empty: none.

    Raises:
        BadConfig: It is not such JSON.
    """
    if not text:
        return {}
    try:
        overrides = json.loads(text)
    except ValueError as exc:
        raise BadConfig(f"K_CE_OVERRIDES is not JSON: {exc}") from exc
    extensions = overrides.get("extensions") or {} if isinstance(overrides, dict) else None
    if not isinstance(extensions, dict) or not all(isinstance(v, str) for v in extensions.values()):
        raise BadConfig(f'K_CE_OVERRIDES={text!r}: expected {{"extensions": {{"name": "value"}}}}')
    return extensions


def _build_ssl_context(ca_certs: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=ca_certs)
    except (ssl.SSLError, ValueError) as exc:
        raise BadConfig(f"K_CA_CERTS has no certificate in PEM: {exc}") from exc
    return context


def _parse_retry_after_s(text: str) -> float:
    """Read Retry-After, seconds or a date; what is neither asks for nothing."""
    try:
        return max(urllib3.Retry(0).parse_retry_after(text), 0.0)
    except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
        return 0.0
