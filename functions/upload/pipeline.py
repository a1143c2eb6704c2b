"""From a body to durable messages: blocks are parsed by a small pool and published as they come out.

Memory is bounded by what is in flight: a few blocks being parsed, a few messages being put. The last message
is held back and published together with the upload's record, in one transaction, once all others are
durable: where the record is, the upload is whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from shared.errors import LimitExceeded, NoSpace, NothingAccepted, PipelineError, Transient
from shared.etcd import Put
from shared.ingest.blocks import BLOCK_BYTES, Block, Read, iter_blocks
from shared.ingest.dialect import Layout, parse_header, read_header
from shared.ingest.reader import Reader
from shared.ingest.report import Report
from shared.keys import Keys, message_id
from shared.messages import Origin, encode_message, iter_messages
from shared.queue import MAX_MESSAGE_BYTES, Queue

#: Blocks parsed at a time, by as many threads as are worth it: Arrow lets go of the interpreter.
PARSE_THREADS = 2
#: Messages being put at a time.
MAX_IN_FLIGHT = 4
#: Decoded bytes of one message: a block is about one message.
_DECODED_BYTES = 8 * 1024 * 1024


class Encoded(NamedTuple):
    """A message ready to be published."""

    id: str
    payload: bytes
    rows: int


def encode_all(table: pa.Table, origin: Origin, number: int, decoded_bytes: int) -> list[Encoded]:
    """Cut records into messages, each within every limit, numbered from `number` on.

    Raises:
        LimitExceeded: A single row is more than a message may be.
    """
    out: list[Encoded] = []
    pieces = deque(iter_messages(table, decoded_bytes))
    while pieces:
        piece = pieces.popleft()
        payload = encode_message(piece, origin, number + len(out))
        if len(payload) > MAX_MESSAGE_BYTES:
            half = piece.num_rows // 2
            if not half:
                raise LimitExceeded(f"one row of the file takes {len(payload)} bytes")
            pieces.extendleft([piece.slice(half), piece.slice(0, half)])
            continue
        out.append(Encoded(message_id(origin.upload_id, number + len(out)), payload, piece.num_rows))
    return out


@cache
def _parsers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(PARSE_THREADS, thread_name_prefix="parser")


class Pipeline:
    """Takes one upload from its bytes to its messages; for one thread."""

    def __init__(self, queue: Queue, keys: Keys, origin: Origin, admit: Callable[[int], None]) -> None:
        """Make a pipeline; `admit` is told the bytes of each message before it is put, and may refuse."""
        self._queue = queue
        self._admit = admit
        self._keys = keys
        self._origin = origin
        self.report = Report()
        self.messages = 0
        #: Rows of the CSV whose messages are durable.
        self._safe_rows = 0
        self._held: Encoded | None = None
        self._publishing: deque[Future[int]] = deque()
        #: Of this upload alone: while etcd is away each put waits, and must not wait for other uploads' too.
        self._publishers: ThreadPoolExecutor | None = None

    def run(self, read: Read) -> Layout:
        """Parse and publish everything but the last message, which `finish` publishes.

        Raises:
            NotCsv: Nothing was published.
            NothingAccepted: Nothing was published; carries the report.
            Transient: etcd is away, or the queue is full. Says how many rows are durable; uploading again
                is harmless.
            NoSpace: etcd is full; likewise.
        """
        text, rest, line = read_header(read)
        layout = parse_header(text)
        with self.publishing():
            self._publish_all_but_last(read, rest, line + 1, Reader(layout, self._origin.cluster))
        for sentence in layout.warnings:
            self.report.warn(sentence)
        if self._held is None:
            raise NothingAccepted(self._nothing(), **self.report.as_dict())
        return layout

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Where `take` is called: at its end all messages taken but the last are durable.

        Raises:
            PipelineError: What was raised within, and how much is durable.
        """
        try:
            yield
            self._wait(0)
        except (Transient, NoSpace) as exc:
            raise self._explained(exc) from exc
        except PipelineError as exc:
            self._settle()
            exc.details["messages_published"] = self.messages
            raise
        finally:
            self._settle()
            if self._publishers is not None:
                self._publishers.shutdown()

    def _publish_all_but_last(self, read: Read, rest: bytes, line: int, reader: Reader) -> None:
        parsing: deque[Future[tuple[list[Encoded], Report]]] = deque()
        for block in iter_blocks(read, rest, line):
            if block.index == 0:
                reader.prepare(block)
                if len(block.data) < BLOCK_BYTES:
                    # All there is: not worth a thread.
                    self.take(*self._parse(reader, block))
                    continue
            parsing.append(_parsers().submit(self._parse, reader, block))
            if len(parsing) > PARSE_THREADS + 1:
                self.take(*parsing.popleft().result())
        while parsing:
            self.take(*parsing.popleft().result())

    def finish(self, record: dict[str, Any]) -> None:
        """Publish the last message and the upload's record together.

        Raises:
            Transient: etcd is away; the other messages are durable.
        """
        if self._held is None:
            raise NothingAccepted
        last = self._held
        also = [Put(self._keys.upload(self._origin.upload_id), orjson.dumps(record))]
        try:
            self._admit(len(last.payload))
            self._queue.publish(last.id, last.payload, rows=last.rows, also=also)
        except (Transient, NoSpace) as exc:
            raise self._explained(exc) from exc

    def _parse(self, reader: Reader, block: Block) -> tuple[list[Encoded], Report]:
        table, report = reader.parse(block)
        if table is None:
            return [], report
        return encode_all(table, self._origin, block.index * 1000, _DECODED_BYTES), report

    def take(self, messages: list[Encoded], report: Report) -> None:
        """Publish messages, all but the last one so far; waits while enough are being put."""
        self.report.add(report)
        for message in messages:
            if self._held is not None:
                self._wait(MAX_IN_FLIGHT - 1)
                if self._publishers is None:
                    self._publishers = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="publisher")
                self._publishing.append(self._publishers.submit(self._publish, self._held))
            self._held = message
            self.messages += 1

    def _publish(self, message: Encoded) -> int:
        self._admit(len(message.payload))
        self._queue.publish(message.id, message.payload, rows=message.rows)
        return message.rows

    def _wait(self, most: int) -> None:
        """Wait until at most so many messages are being put."""
        while len(self._publishing) > most:
            self._safe_rows += self._publishing.popleft().result()

    def _settle(self) -> None:
        """Let what is in flight end, whatever became of it."""
        while self._publishing:
            future = self._publishing.popleft()
            if future.exception() is None:
                self._safe_rows += future.result()

    def _explained(self, exc: PipelineError) -> PipelineError:
        self._settle()
        explained = type(exc)(
            f"{exc.message}; upload the whole file again: rows that are safe already change nothing",
            **exc.details,
            upload_id=self._origin.upload_id,
            records_safe=self._safe_rows,
        )
        if isinstance(exc, Transient) and isinstance(explained, Transient):
            explained.retry_after_s = exc.retry_after_s
        return explained

    def _nothing(self) -> str:
        if not self.report.rows:
            return "the file has a header and no rows"
        first = self.report.bad[0].reason if self.report.bad else "see errors"
        return f"none of the {self.report.rows} rows could be accepted: {first}"
