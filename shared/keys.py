r"""Every key in etcd: built and parsed here, nowhere else.

Under the prefix (MESSAGE_QUEUE_PREFIX, /telemetry):

  queue/ready/<message>       JSON: bytes, rows, attempts; of the last claim the lease, of a replay the day.
                              In order of upload; one per message that is not committed
  queue/payload/<message>     the message itself (Arrow IPC); read by exact key only, never by range
  queue/claims/<message>      who works on it; bound to the claimer's lease
  queue/dead/<message>        JSON: bytes, rows, attempts, reason, buried_ms; the payload stays where it is
  queue/collectors/<id>       a collector that takes messages by listing; bound to its lease
  queue/bell                  JSON: the messages of the newest publish; every publish puts it
  store/index/<day>/<level>/<min>-<max>/<segment>
                              JSON: rows, bytes, uuid range, upload range. day: of ingestion, YYYYMMDD, UTC;
                              level: 0 fresh, higher folded; min and max: epoch ms of the records inside
  store/segment/<segment>     the segment itself (Parquet); immutable; read by exact key only
  store/inventory/<segment>   what a folded segment says of its GPUs (Arrow IPC): every level from 1 on
  store/pending/<segment>     JSON: payloads put ahead of the transaction that brings them into the index
  store/lock/<name>           who folds or keeps house; bound to a lease, only ever saves double work
  store/clock                 JSON: the time and revision of the last ticks
  store/bell                  JSON: the newest segments; every store transaction puts it
  uploads/<upload>            JSON: the report of a finished upload
  deleted/<upload>            JSON: an upload that was undone, or is being; it accepts no message any more

A message is `<upload>-<number>`, so the messages of one upload are a range of their own. An upload is
`<received at, epoch ms, 12 hex digits>-<12 random hex digits>`: in order of time, and unique without asking.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime

from shared.clock import MAX_TIME_MS
from shared.errors import Corrupt

_MAX_MS = 99_999_999_999_999


def new_upload_id(received_ms: int) -> str:
    """Draw an id for an upload received at an epoch time in milliseconds."""
    return f"{upload_prefix_of(received_ms)}-{secrets.token_hex(6)}"


def upload_prefix_of(received_ms: int) -> str:
    """Build what the ids of uploads received at an epoch time in milliseconds begin with."""
    return f"{received_ms:012x}"


def new_segment_id() -> str:
    """Draw an id for a segment."""
    return secrets.token_hex(12)


def message_id(upload_id: str, number: int) -> str:
    """Name the number-th message of an upload."""
    return f"{upload_id}-{number:06d}"


def parse_message_id(message: str) -> tuple[str, int]:
    """Split a message's name into its upload and its number.

    Raises:
        Corrupt: Not such a name.
    """
    upload_id, dash, number = message.rpartition("-")
    if not dash or not number.isdigit():
        raise Corrupt(f"not a message id: {message!r}")
    return upload_id, int(number)


def is_upload_id(text: str) -> bool:
    """Tell whether a text has the form of an upload's id; what has not is never put into a key."""
    head, dash, tail = text.partition("-")
    hexadecimal = set("0123456789abcdef")
    return bool(dash) and len(head) == len(tail) == 12 and set(head + tail) <= hexadecimal  # noqa: PLR2004


def is_message_id(text: object) -> bool:
    """Tell whether a value has the form of a message's id; what has not is never put into a key."""
    if not isinstance(text, str) or not text.isascii():
        return False
    upload, _, number = text.rpartition("-")
    # Six digits or more, as message_id writes them; an upload of 4 GiB needs seven.
    return (
        is_upload_id(upload)
        and number.isdigit()
        and 6 <= len(number) <= 12  # noqa: PLR2004
        and int(upload[:12], 16) < MAX_TIME_MS
    )


def is_day(text: object) -> bool:
    """Tell whether a value is an ingestion day, YYYYMMDD."""
    # Not by strptime, which imports locales and calendars first.
    if not (isinstance(text, str) and len(text) == len("YYYYMMDD") and text.isascii() and text.isdigit()):
        return False
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def ingestion_day(received_ms: int) -> str:
    """Name the UTC day of an epoch time in milliseconds, YYYYMMDD."""
    return datetime.fromtimestamp(received_ms / 1000, UTC).strftime("%Y%m%d")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexKey:
    """What the key of an index entry says."""

    day: str
    level: int
    min_ms: int
    max_ms: int
    segment: str


class Keys:
    """The keys of one pipeline; a value object."""

    def __init__(self, prefix: str) -> None:
        self.ready_prefix = f"{prefix}/queue/ready/"
        self.payload_prefix = f"{prefix}/queue/payload/"
        self.claims_prefix = f"{prefix}/queue/claims/"
        self.dead_prefix = f"{prefix}/queue/dead/"
        self.collectors_prefix = f"{prefix}/queue/collectors/"
        self.queue_bell = f"{prefix}/queue/bell"
        self.index_prefix = f"{prefix}/store/index/"
        self.segment_prefix = f"{prefix}/store/segment/"
        self.inventory_prefix = f"{prefix}/store/inventory/"
        self.pending_prefix = f"{prefix}/store/pending/"
        self.locks_prefix = f"{prefix}/store/lock/"
        self.store_clock = f"{prefix}/store/clock"
        self.store_bell = f"{prefix}/store/bell"
        self.uploads_prefix = f"{prefix}/uploads/"
        self.deleted_prefix = f"{prefix}/deleted/"

    def ready(self, message: str) -> str:
        """Build the key that says a message waits."""
        return self.ready_prefix + message

    def ready_of(self, upload_id: str) -> str:
        """Build the prefix of the ready keys of one upload."""
        return f"{self.ready_prefix}{upload_id}-"

    def ready_at(self, received_ms: int) -> str:
        """Build the first ready key that a message of an upload of that time, epoch ms, can have."""
        return f"{self.ready_prefix}{received_ms:012x}-"

    def dead_of(self, upload_id: str) -> str:
        """Build the prefix of the dead letters of one upload."""
        return f"{self.dead_prefix}{upload_id}-"

    def payload(self, message: str) -> str:
        """Build the key of a message's bytes."""
        return self.payload_prefix + message

    def claim(self, message: str) -> str:
        """Build the key that says a message is being worked on."""
        return self.claims_prefix + message

    def dead(self, message: str) -> str:
        """Build the key of a dead letter."""
        return self.dead_prefix + message

    def segment(self, segment: str) -> str:
        """Build the key of a segment's bytes."""
        return self.segment_prefix + segment

    def collector(self, collector: str) -> str:
        """Build the key of a collector that takes messages by listing."""
        return self.collectors_prefix + collector

    def inventory(self, segment: str) -> str:
        """Build the key of what a folded segment says of its GPUs."""
        return self.inventory_prefix + segment

    def pending(self, segment: str) -> str:
        """Build the key that lists payloads put ahead of their index entries."""
        return self.pending_prefix + segment

    def lock(self, name: str) -> str:
        """Build the key of a lock of the store's housekeeping."""
        return self.locks_prefix + name

    def deleted(self, upload_id: str) -> str:
        """Build the key that says an upload was undone."""
        return self.deleted_prefix + upload_id

    def upload(self, upload_id: str) -> str:
        """Build the key of an upload's report."""
        return self.uploads_prefix + upload_id

    def index(self, entry: IndexKey) -> str:
        """Build the key of an index entry; times are clipped to 14 digits, which is the year 5138."""
        low, high = (min(max(t, 0), _MAX_MS) for t in (entry.min_ms, entry.max_ms))
        return f"{self.index_prefix}{entry.day}/{entry.level}/{low:014d}-{high:014d}/{entry.segment}"

    def parse_index(self, key: str) -> IndexKey:
        """Read the key of an index entry.

        Raises:
            Corrupt: Not such a key.
        """
        try:
            day, level, times, segment = key.removeprefix(self.index_prefix).split("/")
            low, high = times.split("-")
            return IndexKey(day=day, level=int(level), min_ms=int(low), max_ms=int(high), segment=segment)
        except ValueError as exc:
            raise Corrupt(f"not an index key: {key!r}") from exc
