"""Bearer tokens: the file that AUTH_TOKENS names, read again when it changes.

A line is `role token`; empty lines and lines that begin with `#` are skipped. A token is a secret: it is in
no message, no log and no representation. Who holds it is known by its role and its line, such as `read:4`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import BadConfig

log = logging.getLogger(__name__)

ROLES = ("ingest", "read", "admin")
#: Whose token the queue source and cron send to collect.
ROLES_OF_SOURCES = ("ingest", "admin")
#: A shorter one can be guessed.
SHORTEST = 16
#: Mounted Secrets are exchanged while a function runs: so often is looked whether that happened.
CHECK_EVERY_S = 1.0
_PRINTABLE = re.compile(r"[!-~]+")
_WORDS = 2

#: What tells a version of the file from another.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token and what its bearer may."""

    role: str
    #: Where it stands in the file.
    line: int
    value: str = field(repr=False)
    #: SHA-256 of the token: what is compared has the same length, whatever was sent.
    digest: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"{self.role}:{self.line}"


def is_token(text: str) -> bool:
    """Tell whether a text can be sent as a token."""
    return _PRINTABLE.fullmatch(text) is not None


def find_token(tokens: Sequence[Token], given: str) -> Token | None:
    """Find the token that was sent, in a time that tells nothing of where or whether there is one."""
    digest = _digest(given)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def parse_tokens(text: str, file: str) -> tuple[Token, ...]:
    """Read the lines of a file of tokens.

    Raises:
        BadConfig: A line is not `role token`, or there is none; names the file and the line, never the token.
    """
    found: dict[bytes, Token] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        problem = _find_problem(words)
        if problem:
            raise BadConfig(f"{file}, line {number}: {problem}")
        role, value = words
        digest = _digest(value)
        if digest in found:
            raise BadConfig(f"{file}, line {number}: the token of line {found[digest].line} once more")
        found[digest] = Token(role=role, line=number, value=value, digest=digest)
    if not found:
        raise BadConfig(f"{file} has no token: a line is a role ({', '.join(ROLES)}) and a token")
    return tuple(found.values())


def _find_problem(words: Sequence[str]) -> str:
    """Say what is wrong with a line; whatever stands in it may be a secret and is not repeated."""
    if len(words) != _WORDS:
        return f"expected a role and a token, not {len(words)} words"
    role, value = words
    if role not in ROLES:
        return f"the role is none of {', '.join(ROLES)}"
    if len(value) < SHORTEST:
        return f"the token has {len(value)} characters, at least {SHORTEST} are needed"
    return "" if is_token(value) else "the token has characters beyond printable ASCII"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenFile:
    """A file of tokens; safe to share between threads.

    What is wrong with it ends the start. Once it was read, a version that is wrong is logged and not taken:
    those of the last good one stay valid.
    """

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            BadConfig: It cannot be read, or is not a file of tokens.
        """
        self._path = path
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._checked_s = clock_s()
        self._problem = ""
        self._stamp, self._tokens = self._read()

    def tokens(self) -> tuple[Token, ...]:
        """Return the tokens, of a version of the file that is at most a second old."""
        now_s = self._clock_s()
        if now_s - self._checked_s >= CHECK_EVERY_S and self._lock.acquire(blocking=False):
            try:
                self._checked_s = now_s
                self._check()
            finally:
                self._lock.release()
        return self._tokens

    def first(self, *roles: str) -> Token:
        """Return the first token with one of some roles: what this process sends itself.

        Raises:
            BadConfig: There is none.
        """
        for token in self.tokens():
            if token.role in roles:
                return token
        raise BadConfig(f"{self._path} has no token with the role {' or '.join(roles)}: collect asks for one")

    def headers(self, *roles: str) -> dict[str, str]:
        """Return the header that carries the first token with one of some roles; raises as `first`."""
        return {"Authorization": f"Bearer {self.first(*roles).value}"}

    def _check(self) -> None:
        try:
            if _stamp(self._path) == self._stamp:
                return
            self._stamp, self._tokens = self._read()
            self._problem = ""
            log.info("%s was read again", self._path, extra={"action": "tokens_read"})
        except OSError as exc:
            self._complain(f"{self._path} cannot be read: {exc.strerror}")
        except BadConfig as exc:
            self._complain(exc.message)

    def _complain(self, problem: str) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        log.error("%s: the tokens before stay valid", problem, extra={"action": "tokens_refused"})

    def _read(self) -> tuple[_Stamp, tuple[Token, ...]]:
        try:
            stamp = _stamp(self._path)
            text = self._path.read_text("utf-8")
        except OSError as exc:
            raise BadConfig(f"{self._path} cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise BadConfig(f"{self._path} is not a text file of tokens") from exc
        return stamp, parse_tokens(text, str(self._path))


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
