"""Files of tokens for tests, and where this machine is reached from outside."""

from __future__ import annotations

import socket

TOKENS = {role: f"{role}-token-of-tests" for role in ("ingest", "read", "admin")}


def write_tokens(path, **tokens):
    """Write a file of tokens: those given by role, or all of TOKENS."""
    path.write_text("".join(f"{role} {token}\n" for role, token in (tokens or TOKENS).items()))
    return path


def bearer(role_or_token):
    return {"Authorization": f"Bearer {TOKENS.get(role_or_token, role_or_token)}"}


def outer_address():
    """An address of this machine that is not loopback; none where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = s.getsockname()[0]
    return None if address.startswith("127.") else address
