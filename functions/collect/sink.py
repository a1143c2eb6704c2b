"""The sink: where the queue source posts its events, as Knative tells it.

K_SINK is the address; K_CE_OVERRIDES is JSON with extensions that every event carries; K_CA_CERTS is PEM with
authorities that an https sink may be vouched for by, besides those of the system.
"""

from __future__ import annotations

import json
import re
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import urllib3

from functions.collect.events import MESSAGES_TYPE, build_messages
from shared import clock
from shared.cloudevents import build_event_headers, build_extension_headers
from shared.config import Settings, read_variable
from shared.errors import BadConfig
from shared.queue import ReadyMessage
from shared.tokens import ROLES_OF_SOURCES, TokenFile

#: Seconds one request may take. Collect works for 25 s at most and answers then, so that after so long no
#: answer will come. What it still holds a claim on is not dealt again; the rest must not wait until its
#: timeoutSeconds are over.
REQUEST_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 2.0


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
        if re.match(r"https?://[^/?#]", url) is None:
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

    def post(self, messages: Sequence[ReadyMessage]) -> Outcome:
        """Tell collect to take these messages, and wait for its answer."""
        try:
            answer = self._http.request(
                "POST",
                self._url,
                body=orjson.dumps(build_messages(messages)),
                headers={
                    **build_event_headers(MESSAGES_TYPE, "/queue", build_event_id(messages), clock.now_s()),
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
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return Outcome()
        pause_s = _parse_retry_after_s(answer.headers.get("retry-after", ""))
        return Outcome(failure=f"collect answered {answer.status}", retry_after_s=pause_s)


def read_sink(config: Settings, connections: int) -> Sink:
    """Make the sink that the environment describes.

    Raises:
        BadConfig: It cannot be used; names the variable.
    """
    url = read_variable("K_SINK")
    if not url:
        raise BadConfig("K_SINK is not set: it is the address of the collect function")
    tokens = None
    if config.auth_tokens:
        tokens = TokenFile(Path(config.auth_tokens))
        tokens.first(*ROLES_OF_SOURCES)
    return Sink(
        url,
        extensions=_parse_overrides(read_variable("K_CE_OVERRIDES")),
        ca_certs=read_variable("K_CA_CERTS"),
        tokens=tokens,
        connections=connections,
    )


def build_event_id(messages: Sequence[ReadyMessage]) -> str:
    """Build an event's id of all keys and revisions it names: others are another event, whatever is first."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(f"{m.id}@{m.revision}" for m in messages)))


def _parse_overrides(text: str) -> dict[str, str]:
    """Read the extensions of K_CE_OVERRIDES, `{"extensions": {"name": "value"}}`; empty: none."""
    try:
        overrides = json.loads(text or "{}")
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
