"""Headers of every answer: what a browser must not do with it, and who may keep it."""

from __future__ import annotations

from flask import Response

#: A handler that sets one of them keeps its own: a page needs another Content-Security-Policy than data do.
SECURITY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


def add_headers(response: Response, request_id: str) -> None:
    """Add what every answer has."""
    headers = response.headers
    headers["X-Request-Id"] = request_id
    for name, value in SECURITY:
        if name not in headers:
            headers[name] = value
    if "Cache-Control" not in headers:
        # What has an ETag may be kept by its reader, who asks each time whether it still holds.
        headers["Cache-Control"] = "private, no-cache" if "ETag" in headers else "no-store"
