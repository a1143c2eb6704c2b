"""How many GPUs a host should have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class ExpectedGpus(NamedTuple):
    """How many GPUs hosts should have: some by name, the others as `default` says, if it does."""

    default: int | None
    by_host: Mapping[str, int]

    def of(self, host: str) -> int | None:
        """Return how many a host should have."""
        return self.by_host.get(host, self.default)


def parse_expected_gpus(text: str) -> ExpectedGpus:
    """Read `8`, `node-a=8,node-b=4`, or both: `8,node-b=4`.

    Raises:
        ValueError: Not such a list, or something is said twice.
    """
    default, by_host = None, {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        host, equals, count = (p.strip() for p in part.rpartition("="))
        if re.fullmatch(r"[0-9]{1,4}", count) is None or (equals and not host):
            raise ValueError("expected a number such as 8, or hosts such as node-a=8,node-b=4")
        if host in by_host or (not equals and default is not None):
            raise ValueError(f"{host or 'the number for all hosts'} is said twice")
        if equals:
            by_host[host] = int(count)
        else:
            default = int(count)
    return ExpectedGpus(default, by_host)
