"""What `gpu-telemetry status` says of queue and etcd."""

from __future__ import annotations

import pytest

from local_runtime.commands.output import format_bytes
from local_runtime.commands.status import _describe


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1_500_000, "1.4 MiB"),
        (8 * 1024**3, "8.0 GiB"),
        (5 * 1024**4, "5120.0 GiB"),
    ],
)
def test_sizes_are_for_people(size, text):
    assert format_bytes(size) == text


def test_what_is_guessed_is_said_to_be():
    queue = {"depth": 5000, "bytes": 3 * 1024**2, "rows": 70, "claimed": 1, "bytes_estimated": True}
    assert _describe(queue) == "depth 5000, size about 3.0 MiB, rows about 70, claimed 1"
    assert _describe({**queue, "bytes_estimated": False}).startswith("depth 5000, size 3.0 MiB, rows 70")


def test_what_is_not_known_is_left_out():
    etcd = {"endpoints": ["a:1", "b:2"], "db_size_bytes": 2048, "memory_bytes": None}
    assert _describe(etcd) == "endpoints a:1,b:2, db_size 2.0 KiB"
