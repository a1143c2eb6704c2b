"""etcd, and the only file that imports etcd3 or grpc.

etcd3's generated stubs on a channel of our own (docs/adr/0001): a deadline on every call, one table from
grpc codes to our errors, transactions built from plain values, a watch that resumes by itself. A channel
must be made in the process that uses it (gunicorn forks after the import), so make an `Etcd` on first use.
"""

from __future__ import annotations

import ipaddress
import logging
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from etcd3 import etcdrpc as rpc
from google.protobuf.unknown_fields import UnknownFieldSet

from shared.errors import LimitExceeded, NoSpace, PipelineError, Transient
from shared.etcd_values import (
    Compare,
    Delete,
    Get,
    KeyValue,
    MemberStatus,
    Operation,
    Put,
    RangeAnswer,
    TxnAnswer,
    WatchEvent,
    absent,
    prefix_end,
)

__all__ = [
    "Compacted",
    "Compare",
    "Delete",
    "Etcd",
    "Get",
    "KeyValue",
    "LeaseGone",
    "MemberStatus",
    "Operation",
    "Put",
    "RangeAnswer",
    "TxnAnswer",
    "Watch",
    "WatchEvent",
    "absent",
    "prefix_end",
]

log = logging.getLogger(__name__)

#: Seconds one call may take. An upload that finds etcd away must answer within 3 s.
DEFAULT_TIMEOUT_S = 2.5
#: Compacting and defragmenting go over the whole file.
_MAINTENANCE_TIMEOUT_S = 120.0
#: Field number in etcd's StatusResponse.
_DB_SIZE_IN_USE = 9
#: grpc's own limit of 4 MiB is too small for an answer with several payloads.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long an attempt to connect may take: a tenth of it is too little where ten instances start at once.
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
]


class LeaseGone(Transient):
    """The lease has expired; what was bound to it is gone."""


class Compacted(PipelineError):
    """The revision asked for is no longer in etcd's history."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision=revision)
        self.revision = revision


_TARGETS = {"create": "CREATE", "mod": "MOD", "version": "VERSION"}
_FIELDS = {"create": "create_revision", "mod": "mod_revision", "version": "version"}
_RESULTS = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}


def _compare(c: Compare) -> Any:
    return rpc.Compare(
        key=c.key.encode(),
        target=rpc.Compare.CompareTarget.Value(_TARGETS[c.target]),
        result=rpc.Compare.CompareResult.Value(_RESULTS[c.op]),
        **{_FIELDS[c.target]: c.value},
    )


def _range_request(g: Get, revision: int = 0) -> Any:
    return rpc.RangeRequest(
        key=g.key.encode(),
        range_end=g.end.encode(),
        limit=g.limit,
        count_only=g.count_only,
        min_mod_revision=g.min_mod_revision,
        revision=revision,
    )


def _operation(o: Operation) -> Any:
    if isinstance(o, Put):
        put = rpc.PutRequest(key=o.key.encode(), value=o.value, lease=o.lease)
        return rpc.RequestOp(request_put=put)
    if isinstance(o, Delete):
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=o.key.encode()))
    return rpc.RequestOp(request_range=_range_request(o))


def _range_answer(response: Any, revision: int) -> RangeAnswer:
    items = tuple(
        KeyValue(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision) for kv in response.kvs
    )
    return RangeAnswer(items, response.count, revision)


def map_error(exc: grpc.RpcError) -> PipelineError:  # noqa: PLR0911
    """Translate a grpc error; the one place where etcd's errors become ours."""
    code, text = exc.code(), exc.details() or ""
    if code is grpc.StatusCode.NOT_FOUND and "lease" in text:
        return LeaseGone()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "space exceeded" in text:
            return NoSpace("etcd is over its quota: nothing more can be stored until space is made")
        if "too many requests" in text:
            return Transient("etcd has too much to do just now; try again")
        return LimitExceeded(f"too large for etcd: {text}")
    if code is grpc.StatusCode.INVALID_ARGUMENT and "too large" in text:
        return LimitExceeded(f"too large for etcd: {text}")
    if code in _TRANSIENT:
        # Which members, and what of them, is nothing for callers.
        log.info("etcd did not answer: %s: %s", code.name, text, extra={"action": "etcd_away"})
        return Transient(f"etcd cannot be reached just now ({code.name.lower()})")
    return PipelineError(f"etcd refused: {code.name.lower()}: {text}")


_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as exc:
        raise map_error(exc) from exc


def _target(endpoints: Sequence[str]) -> str:
    """Name all members in one grpc target; several host names are looked up here, once."""
    if len(endpoints) == 1:
        return f"dns:///{endpoints[0]}"
    addresses = []
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        try:
            ipaddress.IPv4Address(host)
            addresses.append(endpoint)
        except ValueError:
            try:
                found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)
            except OSError as exc:
                log.warning("etcd member %s is not known to DNS: %s", endpoint, exc)
                continue
            addresses += [f"{address[4][0]}:{port}" for address in found]
    if not addresses:
        raise Transient(f"none of the etcd members {', '.join(endpoints)} is known to DNS")
    return "ipv4:" + ",".join(dict.fromkeys(addresses))


class Etcd:
    """A connection to etcd; safe to share between threads, not between processes.

    Every call raises Transient when etcd does not answer in time, NoSpace over quota, LimitExceeded when
    a request is too large. A write that raised Transient may have happened: repeat it with a condition.
    """

    def __init__(self, endpoints: Sequence[str], timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._channel = grpc.insecure_channel(_target(endpoints), options=_OPTIONS)
        self._kv = rpc.KVStub(self._channel)
        self._lease = rpc.LeaseStub(self._channel)
        self._watch = rpc.WatchStub(self._channel)
        self._maintenance = rpc.MaintenanceStub(self._channel)
        self._timeout_s = timeout_s
        self.endpoints = tuple(endpoints)

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        self._channel.close()

    def get(self, key: str) -> KeyValue | None:
        """Read one key, or None where there is none."""
        items = self.read(Get(key)).items
        return items[0] if items else None

    def read(self, what: Get, *, revision: int = 0, timeout_s: float | None = None) -> RangeAnswer:
        """Read a key or a range, in key order, at a revision or now (linearizable).

        Raises:
            Compacted: The revision is no longer in etcd's history.
        """
        try:
            answer = self._kv.Range(_range_request(what, revision), timeout=timeout_s or self._timeout_s)
        except grpc.RpcError as exc:
            if "compacted" in (exc.details() or ""):
                raise Compacted(revision) from exc
            raise map_error(exc) from exc
        return _range_answer(answer, answer.header.revision)

    def txn(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnAnswer:
        """Do `success` if every condition holds, else `failure`; all of it or nothing."""
        request = rpc.TxnRequest(
            compare=[_compare(c) for c in compare],
            success=[_operation(o) for o in success],
            failure=[_operation(o) for o in failure],
        )
        with _mapped():
            answer = self._kv.Txn(request, timeout=timeout_s or self._timeout_s)
        revision = answer.header.revision
        reads = tuple(
            _range_answer(r.response_range, revision)
            for r in answer.responses
            if r.WhichOneof("response") == "response_range"
        )
        return TxnAnswer(answer.succeeded, revision, reads)

    def lease_grant(self, ttl_s: int) -> int:
        """Grant a lease; etcd makes one of under 2 s last 2 s."""
        with _mapped():
            return int(self._lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=ttl_s), timeout=self._timeout_s).ID)

    def lease_keepalive(self, lease: int) -> int:
        """Renew a lease once and return the seconds it has; 0 means that it is gone."""
        with _mapped():
            request = iter([rpc.LeaseKeepAliveRequest(ID=lease)])
            for answer in self._lease.LeaseKeepAlive(request, timeout=self._timeout_s):
                return int(answer.TTL)
        raise Transient("etcd did not answer a keepalive")

    def lease_revoke(self, lease: int) -> None:
        """Give a lease back, and with it every key bound to it; one that is gone already is fine."""
        try:
            with _mapped():
                self._lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease), timeout=self._timeout_s)
        except LeaseGone:
            pass

    def status(self, endpoint: str | None = None) -> MemberStatus:
        """Ask a member, that of an endpoint or any, for its version, size and revision."""
        with self._member(endpoint) as maintenance, _mapped():
            answer = maintenance.Status(rpc.StatusRequest(), timeout=self._timeout_s)
        # The stubs are older than this field of etcd 3.4.
        unknown = {f.field_number: f.data for f in UnknownFieldSet(answer)}
        size = int(answer.dbSize)
        return MemberStatus(
            version=answer.version,
            db_size_bytes=size,
            db_in_use_bytes=int(unknown.get(_DB_SIZE_IN_USE, size)),
            revision=int(answer.header.revision),
        )

    def compact(self, revision: int) -> None:
        """Forget the history before a revision, and return when its pages are free.

        One that is forgotten already is fine.
        """
        request = rpc.CompactionRequest(revision=revision, physical=True)
        try:
            self._kv.Compact(request, timeout=_MAINTENANCE_TIMEOUT_S)
        except grpc.RpcError as exc:
            if "compacted" not in (exc.details() or ""):
                raise map_error(exc) from exc

    def defragment(self, endpoint: str) -> None:
        """Give a member's free pages back to its disk; it answers nothing else meanwhile."""
        with self._member(endpoint) as maintenance, _mapped():
            maintenance.Defragment(rpc.DefragmentRequest(), timeout=_MAINTENANCE_TIMEOUT_S)

    def has_space_alarm(self) -> bool:
        """Tell whether a member has raised the alarm NOSPACE: nothing can be put until it is disarmed."""
        return bool(self._space_alarms(rpc.AlarmRequest.AlarmAction.Value("GET")))

    def disarm_space_alarm(self) -> None:
        """Take the alarm NOSPACE back; it comes again if there still is no space."""
        for alarm in self._space_alarms(rpc.AlarmRequest.AlarmAction.Value("GET")):
            self._space_alarms(rpc.AlarmRequest.AlarmAction.Value("DEACTIVATE"), alarm.memberID)

    def _space_alarms(self, action: int, member: int = 0) -> list[Any]:
        request = rpc.AlarmRequest(action=action, memberID=member, alarm=rpc.AlarmType.Value("NOSPACE"))
        with _mapped():
            answer = self._maintenance.Alarm(request, timeout=self._timeout_s)
        return [a for a in answer.alarms if a.alarm == rpc.AlarmType.Value("NOSPACE")]

    @contextmanager
    def _member(self, endpoint: str | None) -> Iterator[Any]:
        """Give the maintenance stub of one member, on a channel for the occasion where there are several."""
        if endpoint is None or self.endpoints == (endpoint,):
            yield self._maintenance
            return
        with grpc.insecure_channel(_target([endpoint]), options=_OPTIONS) as channel:
            yield rpc.MaintenanceStub(channel)

    def watch(self, key: str, start_revision: int, end: str = "") -> Watch:
        """Watch one key, or the keys before an end, from a revision on; see Watch."""
        return Watch(self._watch, key, start_revision, end)


class Watch:
    """The changes of one key or range from a revision on, in order, none left out, each once.

    Iterate in one thread; `close` from any. A broken stream is opened again where it broke, after a
    pause; etcd away is no error here but silence. Raises Compacted when history between the break and
    now is gone: the caller then lists and starts afresh.
    """

    #: Seconds between attempts while etcd is away.
    RETRY_S = 0.2

    def __init__(self, stub: Any, key: str, start_revision: int, end: str = "") -> None:
        self._stub = stub
        self._key, self._end = key, end
        self._next = start_revision
        self._closed = threading.Event()
        self._call: Any = None

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        call = self._call
        if call is not None:
            call.cancel()

    def __iter__(self) -> Iterator[WatchEvent]:
        while not self._closed.is_set():
            requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            create = rpc.WatchCreateRequest(
                key=self._key.encode(), range_end=self._end.encode(), start_revision=self._next
            )
            requests.put(rpc.WatchRequest(create_request=create))
            try:
                # The request stream stays open until a None ends it: closing it would end the watch.
                self._call = self._stub.Watch(iter(requests.get, None))
                if self._closed.is_set():  # just now: `close` did not see this call
                    return
                yield from self._events()
            except grpc.RpcError as exc:
                if not self._closed.is_set():
                    log.info("watch of %s broke: %s", self._key, exc.code(), extra={"action": "watch_broke"})
                    self._closed.wait(self.RETRY_S)
            finally:
                requests.put(None)
                self._call.cancel()

    def _events(self) -> Iterator[WatchEvent]:
        for answer in self._call:
            if answer.compact_revision:
                raise Compacted(int(answer.compact_revision))
            if answer.canceled:
                log.info("watch of %s was ended by etcd: %s", self._key, answer.cancel_reason)
                return
            for event in answer.events:
                kv = event.kv
                yield WatchEvent(kv.key.decode(), kv.value, event.type == 1, kv.mod_revision)
                self._next = kv.mod_revision + 1
