"""The load of part 3: small uploads at a fixed rate, some watched until stored, a GPU asked now and then.

Everything runs in one thread's event loop. One upload in ten is watched: GET /api/v1/uploads/{id} on
upload, first 2.5 ms after its answer, then every 2.5 ms, and once it is 25 ms old every tenth of its age,
so that watching does not become the load where the pipeline falls behind. A watched upload counts as
queryable when the answer that said `stored` has arrived: what is reported is too long by up to one pause
and one answer, never too short. Each poll costs upload and etcd some CPU: `poll_cost_s` measures that
afterwards, and the report says its share.

That `stored` means queryable is checked: a query that begins after an upload was seen stored must answer
its record.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import orjson
import pyarrow as pa

from benchmarks.generate import Fleet, to_csv
from benchmarks.openloop import Answer, Pool, build_head
from benchmarks.pipeline import format_time

ROWS_PER_UPLOAD = 100
UPLOADS_PER_S = 100
GPUS = 10_000
#: One upload in so many is watched.
WATCHED = 10
_POLL_S = 0.0025
_WATCH_TIMEOUT_S = 120.0
_QUERY_EVERY_S = 0.5
_QUERY_WINDOW_MS = 5 * 60 * 1000
#: Bodies of so many instants are built beforehand: values vary, times are put in when they are sent.
_INSTANTS = 10
_PLACEHOLDER = b"0000-00-00T00:00:00.000Z"


@dataclass
class Outcome:
    """What happened; times in seconds."""

    seconds: float = 0.0
    sent: int = 0
    accepted_rows: int = 0
    #: From when an upload was due until its answer, and from when it was sent.
    due_to_answer: list[float] = field(default_factory=list)
    sent_to_answer: list[float] = field(default_factory=list)
    answer_to_queryable: list[float] = field(default_factory=list)
    queries: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    #: Stored, as was said, and yet not answered.
    invisible: list[str] = field(default_factory=list)
    polls: int = 0
    connections: int = 0
    client_cpu_s: float = 0.0


def build_bodies() -> list[list[bytes]]:
    """Build the bodies of each group of GPUs, one per instant, with a placeholder for the time."""
    fleet = Fleet(GPUS, _INSTANTS)
    header = ",".join(fleet.table(0, 1, gpus=range(1)).column_names).encode() + b"\n"
    groups = []
    for start in range(0, GPUS, ROWS_PER_UPLOAD):
        bodies = []
        for instant in range(_INSTANTS):
            table = fleet.table(instant, 1, gpus=range(start, start + ROWS_PER_UPLOAD))
            times = pa.array([_PLACEHOLDER.decode()] * table.num_rows)
            bodies.append(header + to_csv(table.set_column(0, "timestamp", times)))
        groups.append(bodies)
    return groups


def stamp(ms: int) -> bytes:
    """Write a time as it is put into a body: always with milliseconds."""
    return format_time(ms).encode()


def answered_stamp(ms: int) -> str:
    """Write a time as answers have it: with milliseconds only where there are some."""
    return format_time(ms).replace(".000Z", "Z")


class Load:
    """One run of the load against one pipeline; for one event loop."""

    def __init__(self, upload_port: int, query_port: int, bodies: list[list[bytes]]) -> None:
        self._bodies = bodies
        self._upload, self._watch, self._query = Pool(upload_port), Pool(upload_port), Pool(query_port)
        self._uuid = Fleet(GPUS, 1).uuids[0]
        #: Times of the records of that GPU: all that were accepted, and those seen stored.
        self.asked_gpu_ms: list[int] = []
        self._stored_ms: list[int] = []
        self.last_upload = ""
        self._heads: dict[int, bytes] = {}

    @property
    def uuid(self) -> str:
        """The GPU that is asked for."""
        return self._uuid

    async def run(self, seconds: float) -> Outcome:
        """Send uploads for so long and wait until all are answered and the watched ones stored."""
        out = Outcome()
        began, cpu_began = time.perf_counter(), time.process_time()
        asking = asyncio.create_task(self._ask(out))
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * UPLOADS_PER_S)):
            due = began + number / UPLOADS_PER_S
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(self._send(out, number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        out.seconds = time.perf_counter() - began
        asking.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        out.client_cpu_s = time.process_time() - cpu_began
        out.connections = self._upload.opened
        return out

    async def close(self) -> None:
        """Close all connections."""
        for pool in (self._upload, self._watch, self._query):
            await pool.close()

    async def _send(self, out: Outcome, number: int, due: float) -> None:
        group = self._bodies[number % len(self._bodies)]
        at_ms = time.time_ns() // 1_000_000
        body = group[number // len(self._bodies) % len(group)].replace(_PLACEHOLDER, stamp(at_ms))
        head = self._heads.get(len(body))
        if head is None:
            head = self._heads[len(body)] = build_head("POST", "/api/v1/csv/upload", len(body))
        out.sent += 1
        sent = time.perf_counter()
        try:
            answer = await self._upload.exchange(head, body)
        except OSError as exc:
            out.failures.append(f"an upload was not answered: {exc!r}")
            return
        answered = time.perf_counter()
        if answer.status != 200:
            out.failures.append(f"an upload was answered {answer.status}: {answer.body[:200]!r}")
            return
        out.due_to_answer.append(answered - due)
        out.sent_to_answer.append(answered - sent)
        report = orjson.loads(answer.body)["data"]
        out.accepted_rows += report["accepted"]
        self.last_upload = report["upload_id"]
        asked = number % len(self._bodies) == 0
        if asked:
            self.asked_gpu_ms.append(at_ms)
        if number % WATCHED == 0:
            stored = await self._until_stored(out, report["upload_id"], answered)
            if stored and asked:
                self._stored_ms.append(at_ms)

    async def _until_stored(self, out: Outcome, upload_id: str, answered: float) -> bool:
        head = build_head("GET", f"/api/v1/uploads/{upload_id}")
        while (age := time.perf_counter() - answered) < _WATCH_TIMEOUT_S:
            await asyncio.sleep(max(_POLL_S, age / 10))
            out.polls += 1
            try:
                answer = await self._watch.exchange(head)
            except OSError as exc:
                out.failures.append(f"an upload's state was not answered: {exc!r}")
                continue
            if answer.status == 200 and b'"state":"stored"' in answer.body:
                out.answer_to_queryable.append(time.perf_counter() - answered)
                return True
        out.failures.append(f"upload {upload_id} was not stored within {_WATCH_TIMEOUT_S:g} s")
        return False

    async def _ask(self, out: Outcome) -> None:
        """Ask for the last five minutes of one GPU about twice a second."""
        while True:
            known = set(self._stored_ms)
            since = format_time(time.time_ns() // 1_000_000 - _QUERY_WINDOW_MS)
            head = build_head("GET", f"/api/v1/gpus/{self._uuid}/telemetry?start_time={since}")
            began = time.perf_counter()
            try:
                answer = await self._query.exchange(head)
            except OSError as exc:
                answer = Answer(0, repr(exc).encode())
            took = time.perf_counter() - began
            if answer.status == 200:
                out.queries.append(took)
                there = {record["timestamp"] for record in orjson.loads(answer.body)["data"]}
                out.invisible += [s for ms in known if (s := answered_stamp(ms)) not in there]
            elif answer.status != 404 or known:  # before its first record nobody knows the GPU
                out.failures.append(f"a query was answered {answer.status}: {answer.body[:200]!r}")
            await asyncio.sleep(max(_QUERY_EVERY_S - took, 0.01))
