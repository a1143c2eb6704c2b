"""A real browser, without a window, told what to do by its debugging protocol."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess

import urllib3
import websocket

from tests.waiting import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser():
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """An open page: what it asked for, what it complained of, and what stands in it."""

    def __init__(self, socket):
        self._socket = socket
        self._sent = 0
        #: Every address that was asked for, in this order, and errors on the console.
        self.requests = []
        self.errors = []

    def tell(self, method, **parameters):
        """Send a command and return its result."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._sent:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"])

    def evaluate(self, script):
        """Return what a piece of JavaScript comes to."""
        return self.tell("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, url):
        for part in ("Network", "Log", "Runtime", "Page"):
            self.tell(f"{part}.enable")
        self.tell("Page.navigate", url=url)


@contextlib.contextmanager
def open_page(url, folder):
    """Open a page in a browser of its own, and end that afterwards."""
    command = [
        find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    log = folder / "browser.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        told = folder / "DevToolsActivePort"
        wait_until(lambda: process.poll() is not None or (told.exists() and "\n" in told.read_text()), 30)
        assert process.poll() is None, log.read_text()
        port = told.read_text().split()[0]
        listed = wait_until(lambda: urllib3.request("GET", f"http://127.0.0.1:{port}/json/list").json())
        address = next(tab["webSocketDebuggerUrl"] for tab in listed if tab["type"] == "page")
        socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        with contextlib.closing(socket):
            page = Page(socket)
            page.open(url)
            yield page
    finally:
        process.kill()
        process.wait()
