"""Heads of messages, as bytes: what passes, what is added, what stays between two neighbours."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

Header = tuple[bytes, bytes]

#: What concerns one connection only (RFC 9110, 7.6.1), as Go's reverse proxy has it.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: What nobody has dropped by naming it in Connection: for whom it is, from whom it comes, how long it is.
_KEPT = frozenset(
    {
        b"authorization",
        b"content-length",
        b"forwarded",
        b"host",
        b"origin",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
#: What a function gets anew, made of what came.
_REWRITTEN = frozenset(
    {
        b"forwarded",
        b"k-proxy-request",
        b"traceparent",
        b"tracestate",
        b"x-forwarded-for",
        b"x-forwarded-proto",
    }
)
#: https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_TRACEPARENT_0_LENGTH = 55
_IPV4 = re.compile(rb"[0-9.]+")
_UNQUOTABLE = re.compile(rb"[^!#-\[\]-~]")
_PROTO = re.compile(rb"[a-z]+")
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def find_header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """Find the first value of a header, whose name is given in lower case."""
    return next((value for key, value in headers if key.lower() == name), None)


def list_passing(headers: Sequence[Header]) -> list[Header]:
    """List the headers that pass from one connection to the next, in order and as they are written."""
    dropped = _HOP_BY_HOP
    for name, value in headers:
        if name.lower() == b"connection":
            dropped |= frozenset(part.strip() for part in value.lower().split(b",")) - _KEPT
    return [header for header in headers if header[0].lower() not in dropped]


def is_traceparent(value: bytes) -> bool:
    """Tell whether a value is one that a trace goes on from."""
    is_well_formed = _TRACEPARENT.fullmatch(value) is not None
    return is_well_formed and (len(value) == _TRACEPARENT_0_LENGTH or value[:2] != b"00")


def build_traceparent() -> bytes:
    """Begin a trace, which nobody is asked to record."""
    chance = random.randbytes(24).hex()
    return f"00-{chance[:32]}-{chance[32:]}-00".encode()


def parse_peer(address: str) -> bytes:
    """Write the address of a peer as others expect it: no zone, and IPv4 as such."""
    bare = address.partition("%")[0]
    return bare.removeprefix("::ffff:").encode() if "." in bare else bare.encode()


def build_request_head(start: bytes, headers: Sequence[Header], peer: bytes, own: Iterable[Header]) -> bytes:
    """Build the head that a function gets.

    Args:
        start: The first line, without its end.
        headers: Those of the client, as they came.
        peer: The client's address.
        own: Those that concern the connection to the function.
    """
    lines = [start]
    taken: dict[bytes, list[bytes]] = {}
    for name, value in list_passing(headers):
        key = name.lower()
        if key in _REWRITTEN:
            taken.setdefault(key, []).append(value)
        else:
            lines.append(name + b": " + value)
    host = find_header(headers, b"host") or b""
    lines += [name + b": " + value for name, value in (*own, *_rewrite(taken, peer, host))]
    return b"\r\n".join([*lines, b"", b""])


def _rewrite(taken: dict[bytes, list[bytes]], peer: bytes, host: bytes) -> list[Header]:
    """Say who asks, and in which trace."""
    hops = taken.get(b"x-forwarded-for", [])
    protos = taken.get(b"x-forwarded-proto", [b"http"])
    traces = taken.get(b"traceparent", [])
    # Where only the older header was there, the newer one says the same.
    chain = taken.get(b"forwarded") or [
        b"for=" + _quote_node(hop) for hop in b",".join(hops).split(b",") if hop
    ]
    proto = protos[0] if _PROTO.fullmatch(protos[0]) else b"http"
    node = b"for=%b;host=%b;proto=%b" % (_quote_node(peer), _quote(host), proto)
    rewritten = [
        (b"X-Forwarded-For", b", ".join([*hops, peer])),
        *((b"X-Forwarded-Proto", proto) for proto in protos),
        (b"Forwarded", b", ".join([*chain, node])),
        (b"K-Proxy-Request", b"activator"),
    ]
    if len(traces) == 1 and is_traceparent(traces[0]):
        rewritten.append((b"traceparent", traces[0]))
        rewritten += ((b"tracestate", state) for state in taken.get(b"tracestate", ()))
    else:
        rewritten.append((b"traceparent", build_traceparent()))
    return rewritten


def _quote_node(address: bytes) -> bytes:
    """Write an address as RFC 7239 has it: an IPv6 one in brackets and quotes."""
    bare = address.strip()
    if _IPV4.fullmatch(bare):
        return bare
    return _quote(b"[" + bare + b"]" if b":" in bare and b"[" not in bare and b"." not in bare else bare)


def _quote(text: bytes) -> bytes:
    return b'"' + _UNQUOTABLE.sub(b"", text) + b'"'


def build_answer_head(status: int, reason: bytes, headers: Iterable[Header], own: Iterable[Header]) -> bytes:
    """Build the head that a client gets."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason or _REASONS.get(status, b""))]
    lines += [name + b": " + value for name, value in (*headers, *own)]
    return b"\r\n".join([*lines, b"", b""])


def frame(data: bytes, *, is_chunked: bool, is_last: bool) -> bytes:
    """Build what is sent of a body: a chunk, and the end, where it goes in chunks."""
    if not is_chunked:
        return data
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk + b"0\r\n\r\n" if is_last else chunk
