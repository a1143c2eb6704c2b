"""Keeping etcd itself in shape: its history, its file, its alarm.

Deleted payloads stay in the file until their revision is compacted; freed pages are used again, but only a
defragmentation makes the file smaller, and the quota counts the file. A tick does one thing at a time: it
compacts what is older than a minute, defragments at most one member, and takes the alarm NOSPACE back once
there is space.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from shared.errors import PipelineError
from shared.etcd import Etcd, MemberStatus

log = logging.getLogger(__name__)

#: A file smaller than this is not worth holding its member up for.
_SMALL_BYTES = 64 * 1024 * 1024
#: Shares of the quota: of the file from which on free pages are given back, and in use, below which the
#: alarm is taken back.
_FILE_SHARE, _SPACE_SHARE = 0.7, 0.8


def decide_defragment(members: Mapping[str, MemberStatus], quota_bytes: int) -> str | None:
    """Decide which member, by endpoint, to defragment now, or None: the one with the most to give back.

    Worth it where half of a file is free, or a tenth of the quota in a file that comes near to it.
    """
    worth: dict[str, int] = {}
    for endpoint, status in members.items():
        free = status.db_size_bytes - status.db_in_use_bytes
        near = 0 < _FILE_SHARE * quota_bytes < status.db_size_bytes and free > quota_bytes // 10
        if near or (status.db_size_bytes > _SMALL_BYTES and free > status.db_size_bytes // 2):
            worth[endpoint] = free
    return max(worth, key=lambda e: worth[e], default=None)


def keep_up(
    etcd: Etcd, maintenance: Literal["full", "compact", "off"], quota_bytes: int, history: int | None
) -> None:
    """Do what is due; a member that does not answer is left alone.

    Args:
        etcd: All members.
        maintenance: The setting ETCD_MAINTENANCE.
        quota_bytes: What a member's file may grow to; none where it is not positive.
        history: The revision before which etcd may forget; None: nothing is old enough.
    """
    if maintenance == "off":
        return
    if history is not None:
        etcd.compact(history)
    if maintenance == "compact":
        return
    members = _read_members(etcd)
    endpoint = decide_defragment(members, quota_bytes)
    if endpoint is not None:
        etcd.defragment(endpoint)
        members[endpoint] = etcd.status(endpoint)
        size = members[endpoint].db_size_bytes
        log.info("defragmented %s", endpoint, extra={"action": "defragmented", "bytes": size})
    sizes = [m.db_size_bytes for m in members.values()]
    if sizes and (quota_bytes <= 0 or max(sizes) < _SPACE_SHARE * quota_bytes) and etcd.has_space_alarm():
        etcd.disarm_space_alarm()
        log.warning("there is space again: took the alarm NOSPACE back", extra={"action": "alarm_disarmed"})


def _read_members(etcd: Etcd) -> dict[str, MemberStatus]:
    out = {}
    for endpoint in etcd.endpoints:
        try:
            out[endpoint] = etcd.status(endpoint)
        except PipelineError as exc:
            log.warning("etcd member %s: %s", endpoint, exc, extra={"action": "member_away"})
    return out
