"""The command, killed by itself when it is about to change its files for the n-th time.

Run as `python -m tests.integration.dying_command N ARGUMENTS...`; where there are fewer changes it ends well.
"""

from __future__ import annotations

import os
import signal
import sys

from local_runtime.cli import run


def main():
    left = int(sys.argv[1])

    def hook(event, arguments):
        nonlocal left
        opened = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        if opened or event in ("os.rename", "os.remove"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
