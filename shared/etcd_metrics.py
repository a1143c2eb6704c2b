"""What an etcd says of itself only in its /metrics, which it serves on its client address."""

from __future__ import annotations

from collections.abc import Iterable

#: The quota of its database, bytes; negative where it has none.
QUOTA = "etcd_server_quota_backend_bytes"
#: The memory that its process holds, bytes.
MEMORY = "process_resident_memory_bytes"


def read_metrics(
    endpoints: Iterable[str], names: Iterable[str], *, timeout_s: float = 1.0
) -> dict[str, float]:
    """Read metrics without labels from the first member (`host:port`) that tells them.

    Returns:
        Those that were found: none where no member answers, for an etcd need not serve any.
    """
    import http.client  # noqa: PLC0415  (not needed before the first answer)

    wanted = set(names)
    for endpoint in endpoints:
        connection = http.client.HTTPConnection(endpoint, timeout=timeout_s)
        try:
            connection.request("GET", "/metrics")
            found = parse_metrics(connection.getresponse().read(), wanted)
        except (OSError, http.client.HTTPException, ValueError):
            continue
        finally:
            connection.close()
        if found:
            return found
    return {}


def parse_metrics(text: bytes, names: set[str]) -> dict[str, float]:
    """Find metrics without labels in a text of Prometheus' format."""
    found = {}
    for line in text.decode(errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if name in names:
            found[name] = float(value)
    return found
