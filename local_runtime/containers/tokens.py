"""The file of tokens, where containers can read it."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

from shared.errors import BadConfig
from shared.tokens import CHECK_EVERY_S

#: What the file is called in the folder that is mounted.
NAME = "tokens"


class TokenCopy:
    """A copy of the file in a folder to mount, kept up to date until it is closed.

    Why not mount the file: its owner may be the only one who can read it, and the containers' user is
    another; and a mounted file stays what it was when a new one takes its place. A folder around the mounted
    one keeps other users of this machine out, as the file's own rights do.
    """

    def __init__(self, source: Path, data_dir: Path) -> None:
        """Make the first copy, below the data directory.

        Raises:
            BadConfig: The file cannot be read, or not be copied.
        """
        self._source = source
        self._around = data_dir.absolute() / "secrets"
        #: The folder to mount.
        self.folder = self._around / "mounted"
        self._stamp: tuple[int, int, int] | None = None
        self._closed = threading.Event()
        try:
            self._around.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            self.folder.chmod(0o755)
            self.refresh()
        except OSError as exc:
            raise BadConfig(f"the tokens of {source} cannot be given to containers: {exc}") from exc
        self._follower = threading.Thread(target=self._follow, name="tokens", daemon=True)
        self._follower.start()

    def refresh(self) -> None:
        """Copy the file if it is another than the last time; a container sees the old or the new one, whole.

        Raises:
            OSError: It cannot be read now.
        """
        found = self._source.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return
        new = self.folder / f"{NAME}.new"
        # A copy of a runtime that was killed here is read-only.
        new.unlink(missing_ok=True)
        new.write_bytes(self._source.read_bytes())
        new.chmod(0o444)
        new.replace(self.folder / NAME)
        self._stamp = stamp

    def close(self) -> None:
        """Remove the copy."""
        self._closed.set()
        self._follower.join(CHECK_EVERY_S)
        shutil.rmtree(self._around, ignore_errors=True)

    def _follow(self) -> None:
        while not self._closed.wait(CHECK_EVERY_S):
            # As the functions do: while the file cannot be read, the tokens before stay valid.
            with contextlib.suppress(OSError):
                self.refresh()
