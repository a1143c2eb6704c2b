"""A command on a terminal of its own: what it shows, and keys that are pressed."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import threading
from contextlib import contextmanager

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
#: With what a screen is drawn anew.
_HOME = "\x1b[H"


class Terminal:
    """One command on one terminal."""

    def __init__(self, process, controller):
        self.process = process
        self._controller = controller
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while select.select([self._controller], [], [])[0]:
            try:
                block = os.read(self._controller, 65536)
            except OSError:  # nobody has the terminal open any more
                return
            self._written += block

    @property
    def raw(self):
        """Everything that was written, controls and all."""
        return self._written.decode(errors="replace")

    @property
    def screen(self):
        """The lines of the last whole screen."""
        drawn = self.raw.split(_HOME)
        return [_CONTROL.sub("", line).rstrip() for line in drawn[-2 if len(drawn) > 2 else -1].splitlines()]

    @property
    def text(self):
        return _CONTROL.sub("", self.raw)

    @property
    def modes(self):
        return termios.tcgetattr(self._controller)

    def press(self, keys):
        os.write(self._controller, keys.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self):
        code = self.process.wait(20)
        self._reader.join(5)
        return code


@contextmanager
def on_terminal(*command, rows=24, columns=80, **environment):
    """Run a command on a terminal."""
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    outer = {
        name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}
    }
    process = subprocess.Popen(
        [*map(str, command)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env={**outer, "TERM": "xterm-256color", **environment},
    )
    os.close(terminal)
    shown = Terminal(process, controller)
    try:
        yield shown
    finally:
        if process.poll() is None:
            process.kill()
        shown.wait()
        os.close(controller)
