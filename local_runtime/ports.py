"""TCP ports: whether one is free, and finding one."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from ipaddress import ip_address

from shared.errors import Conflict

LOOPBACK = "127.0.0.1"
_FIRST_INSTANCE_PORT, _LAST_INSTANCE_PORT = 20_000, 29_999


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a server that listens on `host`."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def read_port_problem(host: str, port: int) -> OSError | None:
    """Try to listen on a port; return what went wrong, or None when it is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: a connection of the last run in TIME_WAIT does not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as exc:
        return exc
    return None


def find_free_port(*, preferred: int | None = None) -> int:
    """Return a free loopback port: the preferred one if it still is."""
    if preferred is not None and read_port_problem(LOOPBACK, preferred) is None:
        return preferred
    return find_free_ports(1)[0]


def find_free_ports(count: int) -> list[int]:
    """Return so many free loopback ports, each another one: the kernel may name one twice if it is let go."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def reachable_host(host: str) -> str:
    """Return the host under which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def build_url(host: str, port: int) -> str:
    """Build the http:// address of a server on this machine."""
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class InstancePorts:
    """Ports for instances, from below those that the kernel takes for outgoing connections, in turn.

    A port of the ephemeral range may become the source of somebody's connection before the instance that it
    was meant for listens, and of those the activator opens many.
    """

    def __init__(self) -> None:
        self._next = random.randrange(_FIRST_INSTANCE_PORT, _LAST_INSTANCE_PORT)

    def take(self) -> int:
        """Return a loopback port that is free now.

        Raises:
            Conflict: None is.
        """
        for _ in range(_LAST_INSTANCE_PORT - _FIRST_INSTANCE_PORT):
            port = self._next
            self._next = port + 1 if port < _LAST_INSTANCE_PORT else _FIRST_INSTANCE_PORT
            problem = read_port_problem(LOOPBACK, port)
            if problem is None:
                return port
            if problem.errno != errno.EADDRINUSE:
                raise Conflict(f"no port can be had: {problem.strerror}")
        raise Conflict(f"no port from {_FIRST_INSTANCE_PORT} to {_LAST_INSTANCE_PORT} is free")
