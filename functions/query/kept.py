"""Answers that hold for as long as what they were made of: kept as bytes, and known by an ETag."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import blake2b

from flask import Request, Response

from shared.api.endpoint import JSON
from shared.store.read import Cache

#: Bytes kept of all answers; a list of 100,000 GPUs has 45 MB.
BUDGET_BYTES = 64 * 1024 * 1024


class KeptAnswers:
    """Answers with ETags; safe to share between threads."""

    def __init__(self) -> None:
        self._bodies: Cache[bytes] = Cache(BUDGET_BYTES, len)

    def answer(self, request: Request, depends: Hashable, render: Callable[[], bytes]) -> Response:
        """Answer 304 where the caller has the answer, else what is kept of it, else what is made now.

        Args:
            request: What may name an ETag in If-None-Match.
            depends: All that the answer depends on, told by its repr, the question too.
            render: Makes the body.
        """
        etag = blake2b(repr(depends).encode(), digest_size=16).hexdigest()
        if request.if_none_match.contains_weak(etag):
            response = Response(status=304)
        else:
            body = self._bodies.get(etag)
            if body is None:
                body = render()
                if len(body) <= BUDGET_BYTES:
                    self._bodies.put(etag, body)
            response = Response(body, content_type=JSON)
        # Weak: on its way it may be compressed.
        response.set_etag(etag, weak=True)
        return response
