"""Who may ask what: bearer tokens and their roles, or this machine only; and how often.

With tokens (AUTH_TOKENS) every request brings one, wherever it comes from. Without, this machine is served
and nobody else, unless INSECURE says so. What is open to `anybody`, such as health, is served always: those
who probe know no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from flask import Request

from shared.api.endpoint import Role
from shared.config import Settings
from shared.errors import Forbidden, TooManyRequests, Unauthorized
from shared.http.addresses import client_address, is_local, is_loopback
from shared.http.cors import Cors
from shared.http.rate import RateLimit
from shared.tokens import Token, TokenFile, find_token

_HARMLESS = ("GET", "HEAD", "OPTIONS")
#: How a page of the web names its token: it can give a WebSocket no headers.
_IN_QUERY = "access_token"


class Caller(NamedTuple):
    """Who asks."""

    address: str
    #: None where none was sent, or none that is known.
    token: Token | None = None

    @property
    def name(self) -> str:
        """What the rate limit counts by: the token if there is one, else the address."""
        return self.token.name if self.token else self.address


class Access:
    """Decides about requests; safe to share between threads."""

    def __init__(self, config: Settings, cors: Cors) -> None:
        """Read the tokens.

        Raises:
            BadConfig: The file of tokens cannot be read, or is none.
        """
        self._tokens = TokenFile(Path(config.auth_tokens)) if config.auth_tokens else None
        self._insecure = config.insecure
        self._cors = cors
        self._per_second = config.rate_limit
        self._rate = RateLimit(config.rate_limit) if config.rate_limit else None

    def identify(self, request: Request, *, is_socket: bool = False) -> Caller:
        """Find out who asks; decides nothing. A token in the address counts for a WebSocket only."""
        given = _read_header(request)
        if is_socket and not given:
            given = request.args.get(_IN_QUERY, "")
        known: Sequence[Token] = self._tokens.tokens() if self._tokens else ()
        return Caller(client_address(request), find_token(known, given) if given else None)

    def authorize(
        self, request: Request, caller: Caller, role: Role | None, *, is_socket: bool = False
    ) -> None:
        """Check that a caller may do what needs a role; None: whatever it is, he may ask at all.

        Raises:
            Unauthorized: A token is needed, and none was sent or an unknown one.
            Forbidden: The token has another role; or without tokens, the request is not of this machine, or
                a page of the web that is not ours would change something, or open a WebSocket: browsers let
                every page do that, to any address.
        """
        if role == "anybody":
            return
        if self._tokens is None:
            self._check_local(request)
            if is_socket or request.method not in _HARMLESS:
                self._check_origin(request)
        elif caller.token is None:
            given = _read_header(request) or (is_socket and _IN_QUERY in request.args)
            raise Unauthorized("this token is not known" if given else None)
        elif role is not None and caller.token.role not in (role, "admin"):
            raise Forbidden(f"this needs a token of role {role}: this one's is {caller.token.role}")

    def limit(self, caller: Caller) -> None:
        """Count a request of a caller. Who asks from this machine is not counted where there are no tokens.

        Raises:
            TooManyRequests: It is one too many; says when the next may come.
        """
        if self._rate is None or (self._tokens is None and is_loopback(caller.address)):
            return
        wait_s = self._rate.take(caller.name)
        if wait_s:
            exc = TooManyRequests(f"more than {self._per_second:g} requests a second of one client")
            exc.retry_after_s = ceil(wait_s)
            raise exc

    def _check_local(self, request: Request) -> None:
        if not self._insecure and not is_local(request):
            raise Forbidden(
                "without tokens only this machine is served, by its name localhost: "
                "set AUTH_TOKENS to a file of tokens, or INSECURE=true to serve everybody"
            )

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of somewhere else has the browser send: it comes from this machine, too."""
        origin = request.headers.get("Origin")
        if origin is None or self._cors.allows(origin):
            return
        if origin.partition("://")[2].lower() != request.headers.get("Host", "").lower():
            raise Forbidden("a page of another origin may not do that: CORS_ORIGINS lists those that may")


def _read_header(request: Request) -> str:
    """Read the bearer token that a request brings; empty where it brings none."""
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
