"""Where a request comes from and goes to: addresses, forwarded ones, the name in Host.

A request counts as one of this machine only where all three say so: the peer, everybody it was forwarded for,
and the name it was sent to (a page of the web can give its own name this machine's address: DNS rebinding).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from flask import Request

#: Whoever forwards a request says here for whom.
_FORWARDED = ("X-Forwarded-For", "X-Real-IP")
_FOR = re.compile(r'for\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)
#: As long as an address with its zone and port gets.
_LONGEST = 80


@lru_cache(maxsize=1024)
def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own; what is no address is not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


@lru_cache(maxsize=1024)
def is_loopback_host(host: str) -> bool:
    """Tell whether a Host header names this machine: localhost or a loopback address, with a port or none."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    name = name.rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def parse_address(text: str) -> str:
    """Read an address as proxies write it, `1.2.3.4:567` or `"[::1]:80"` too; a text without one as it is."""
    bare = text.strip().strip('"')[:_LONGEST]
    if bare.startswith("["):
        return bare[1:].partition("]")[0]
    host, colon, port = bare.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else bare


def list_forwarded(request: Request) -> list[str]:
    """List for whom a request was forwarded, as its headers say; the nearest one last."""
    found: list[str] = []
    for name in _FORWARDED:
        for header in request.headers.getlist(name):
            found += [parse_address(part) for part in header.split(",") if part.strip()]
    for header in request.headers.getlist("Forwarded"):
        found += [parse_address(part) for part in _FOR.findall(header)] or [header[:_LONGEST]]
    return found


def is_local(request: Request) -> bool:
    """Tell whether a request comes from this machine, and from nobody beyond it."""
    host = request.headers.get("Host")
    return (
        is_loopback(request.remote_addr or "")
        and (host is None or is_loopback_host(host))
        and all(is_loopback(address) for address in list_forwarded(request))
    )


def client_address(request: Request) -> str:
    """Name who asks.

    Only who is on this machine, a proxy, the activator or Knative's queue-proxy, is believed when it says for
    whom it forwards. There may be several, one behind the other: each appends who asked it, so that the hops
    are read from the last one back, until one is not of this machine. What stands before it, others wrote.
    """
    asking = request.remote_addr or ""
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    while hops and is_loopback(asking):
        hop = parse_address(hops.pop())
        if not hop:
            break
        asking = hop
    return asking
