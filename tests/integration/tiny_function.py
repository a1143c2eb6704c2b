"""A function that does what its path says, for tests of what stands in front of it."""

from __future__ import annotations

import itertools
import json
import os
import time

import functions_framework
from flask import Response


@functions_framework.http
def tiny(request):
    does = {"/count": count, "/early": refuse, "/stream": stream, "/die": die, "/big": big, "/empty": empty}
    return does.get(request.path, tell)(request)


def tell(request):
    """Say what came."""
    told = {"method": request.method, "target": request.environ["RAW_URI"], "headers": list(request.headers)}
    return json.dumps(told), 200, {"Content-Type": "application/json"}


def count(request):
    """Read the whole body, and say how long it was."""
    parts = iter(lambda: request.stream.read(65536), b"")
    size = sum(len(part) for part in parts)
    return str(size), 200, {"X-Rows": str(size)}


def refuse(_request):
    """Answer before the body was read."""
    return "too large\n", 413


def stream(_request):
    """Say line after line, until nobody listens."""
    return Response(_count_slowly(), mimetype="application/x-ndjson")


def _count_slowly():
    for number in itertools.count():
        yield f'{{"line": {number}}}\n'
        time.sleep(0.02)


def big(_request):
    """Say 100 MB."""
    return Response((b"x" * 100_000 for _ in range(1000)), mimetype="application/octet-stream")


def empty(_request):
    """Say nothing."""
    return "", 204


def die(_request):
    """End the process in the middle of an answer."""
    return Response(_say_and_die(), mimetype="text/plain")


def _say_and_die():
    yield "so far\n"
    os.kill(os.getppid(), 9)
    os._exit(1)
