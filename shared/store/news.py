"""What comes into the store, as it comes: the fresh segments of each transaction, in order.

Records come in by moves only, each of which puts a fresh segment, level 0, into the index; folds, merges and
the undoing of uploads put higher levels, which bring nothing new. So the history of the index tells what is
new after any revision, whatever was folded since: a segment is read as it stood when it came. etcd keeps that
history for a minute or more; of what is older only the segments that nobody folded are found.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from shared.errors import Corrupt
from shared.etcd import Compacted, Etcd, Get, Watch, prefix_end
from shared.keys import Keys
from shared.records import concat, sort_resolve
from shared.store.read import SegmentGone, Store
from shared.store.segment import SegmentInfo, decode, parse_index_entry

log = logging.getLogger(__name__)

#: Seconds after which the history is asked for again: etcd away is silence.
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """The end of a transaction, and the fresh segments that it brought, if any."""

    revision: int
    segments: tuple[SegmentInfo, ...] = ()
    #: Whether records may have come, since the arrival before, that cannot be told any more.
    lost: bool = False


class News:
    """What is new in one store; safe to share between threads. A revision is that of a transaction's bell."""

    def __init__(self, etcd: Etcd, keys: Keys, store: Store) -> None:
        self._etcd = etcd
        self._keys = keys
        self._store = store

    def now(self) -> tuple[int, int]:
        """Return the revision of the store's last transaction and that of etcd; nothing lies between.

        Raises:
            Transient: etcd is away.
        """
        answer = self._etcd.read(Get(self._keys.store_bell))
        return (answer.items[0].mod_revision if answer.items else answer.revision), answer.revision

    def watch(self, after: int) -> Watch:
        """Watch what comes after a revision of etcd, for `follow`."""
        # The bell, the clock of ticks, and the index: neighbours. The bell is put last in every transaction.
        return self._etcd.watch(self._keys.store_bell, after + 1, prefix_end(self._keys.index_prefix))

    def follow(self, watch: Watch) -> Iterator[Arrival]:
        """Yield what comes, transaction by transaction, until the watch is closed.

        Raises:
            Compacted: etcd's history begins later than the watch.
        """
        fresh: list[SegmentInfo] = []
        lost = False
        for event in watch:
            if event.key == self._keys.store_bell:
                yield Arrival(event.mod_revision, tuple(fresh), lost)
                fresh, lost = [], False
            elif event.key.startswith(self._keys.index_prefix) and not event.deleted:
                try:
                    segment = parse_index_entry(self._keys, event.key, event.value, event.mod_revision)
                except Corrupt as exc:
                    log.warning("what came is not told: %s", exc, extra={"action": "live_failed"})
                    lost = True
                    continue
                if segment.level == 0:
                    fresh.append(segment)

    def between(self, after: int, upto: int) -> Iterator[Arrival]:
        """Yield what came after one revision and not after another; ends early while etcd is away.

        Where etcd's history begins later, `lost` says that some may be missing.

        Raises:
            Transient: etcd is away.
        """
        watch = self.watch(after)
        timer = threading.Timer(_PATIENCE_S, watch.close)
        timer.daemon = True
        timer.start()
        try:
            for arrival in self.follow(watch):
                yield arrival
                if arrival.revision >= upto:
                    return
        except Compacted:
            yield self.find_unfolded(after, upto)
        finally:
            timer.cancel()
            watch.close()

    def find_unfolded(self, after: int, upto: int) -> Arrival:
        """Find what came after one revision and not after another, and still is as it came.

        Raises:
            Transient: etcd is away.
        """
        segments = [s for s in self._store.index().segments if s.revision > after]
        fresh = [s for s in segments if s.level == 0 and s.revision <= upto]
        fresh.sort(key=lambda s: s.revision)
        return Arrival(upto, tuple(fresh), lost=any(s.level for s in segments))

    def read(self, segment: SegmentInfo) -> pa.Table:
        """Read the records of a fresh segment, resolved, also where it was folded since.

        Raises:
            Compacted: It was, and etcd's history begins later.
            Corrupt: It cannot be decoded.
            Transient: etcd is away.
        """
        try:
            table = next(self._store.read([segment]))
        except SegmentGone:
            found = self._etcd.read(Get(self._keys.segment(segment.id)), revision=segment.revision)
            if not found.items:
                raise Corrupt(f"segment {segment.id} came without its records") from None
            table = decode(found.items[0].value)
        return sort_resolve(concat([table]))
