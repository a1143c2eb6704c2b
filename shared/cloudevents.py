"""CloudEvents in binary mode over HTTP: what every source of events writes into headers."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime

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


def format_time(epoch_s: float) -> str:
    """Write a time as an event carries it, in UTC."""
    at = datetime.fromtimestamp(epoch_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
