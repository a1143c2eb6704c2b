"""A function that does as it is told: what is scaled, hung, killed and drained in the tests of the runtime."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import functions_framework

#: A folder that the tests write into; a file `broken` in it keeps new instances from starting.
FOLDER = Path(os.environ["HELLO_FOLDER"])
if (FOLDER / "broken").exists():
    raise RuntimeError("the function is broken")

_leak = []


@functions_framework.http
def hello(request):
    """Answer who answers; ?sleep=S first, /hang never, /spin?seconds=S busily, /leak takes memory."""
    if request.path == "/hang":
        threading.Event().wait()
    if request.path == "/leak":
        _leak.append(os.urandom(1) * 300_000_000)
    if request.path == "/spin":
        end = time.monotonic() + float(request.args["seconds"])
        while time.monotonic() < end:
            pass
    if request.path == "/event":
        with (FOLDER / "events").open("a") as events:
            events.write(json.dumps({k.lower(): v for k, v in request.headers}) + "\n")
        return "", 204
    time.sleep(float(request.args.get("sleep", 0)))
    return {name: os.environ[name] for name in ("HOSTNAME", "K_REVISION", "K_SERVICE", "PORT")}
