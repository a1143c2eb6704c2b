"""The queue: publish, claim, release, bury; and the queue's half of the move into the store.

A message is delivered at least once and committed exactly once: whoever moves it proves, inside the
transaction that deletes it, that the claim is still its own. A claim is bound to a lease (the visibility
timeout), so a collector that dies gives its messages back without anybody's help. This package owns the keys
below queue/ and knows nothing of the store. See shared/keys.py for the layout.
"""

from __future__ import annotations

from shared.queue.collectors import PAGE, Collector
from shared.queue.depth import Depth
from shared.queue.lease import Lease
from shared.queue.message import Claim, ReadyMessage, describe, parse_bell, parse_ready
from shared.queue.queue import (
    MAX_MESSAGE_BYTES,
    MAX_MESSAGES_PER_CLAIM,
    PUBLISH_RETRY_S,
    Queue,
    Tally,
)

__all__ = [
    "MAX_MESSAGES_PER_CLAIM",
    "MAX_MESSAGE_BYTES",
    "PAGE",
    "PUBLISH_RETRY_S",
    "Claim",
    "Collector",
    "Depth",
    "Lease",
    "Queue",
    "ReadyMessage",
    "Tally",
    "describe",
    "parse_bell",
    "parse_ready",
]
