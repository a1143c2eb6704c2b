"""CloudEvents in binary mode over HTTP: what every source of events writes into headers."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping

from shared import clock

#: The type of a PingSource's events.
PING_TYPE = "dev.knative.sources.ping"
#: What an event says of itself already: an extension of such a name would say it twice.
ATTRIBUTES = frozenset(
    {"datacontenttype", "dataschema", "id", "source", "specversion", "subject", "time", "type"}
)
#: Printable ASCII stands for itself, all but the space, the quote and the percent sign.
_PLAIN = "!#$&'()*+,/:;<=>?@[\\]^`{|}"


def build_extension_headers(extensions: Mapping[str, str]) -> dict[str, str]:
    """Build the headers of extension attributes, as Knative's ceOverrides gives them.

    Raises:
        ValueError: A name is not one, or is that of an attribute every event has.
    """
    headers = {}
    for name, value in extensions.items():
        if re.fullmatch("[A-Za-z0-9]+", name) is None:
            raise ValueError(f"extension {name!r}: expected a name of letters and digits")
        if name.lower() in ATTRIBUTES:
            raise ValueError(f"extension {name!r} is an attribute that every event has")
        headers[f"ce-{name.lower()}"] = urllib.parse.quote(value, safe=_PLAIN)
    return headers


def build_event_headers(kind: str, source: str, id_: str, at_s: float) -> dict[str, str]:
    """Build the headers that every event has; its time is in epoch seconds."""
    own = {"ce-specversion": "1.0", "ce-type": kind, "ce-source": source, "ce-id": id_}
    return {**own, "ce-time": clock.format_utc(at_s)}
