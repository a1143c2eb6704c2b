"""--reload: which services a change of their code concerns, and whether the code can be started at all."""

from __future__ import annotations

import hashlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from shared.errors import BadConfig

#: Seconds without a further change after which changes are reported: an editor saves in several steps.
QUIET_S = 0.2
#: Seconds after which they are reported although changes go on.
LONGEST_S = 2.0
#: What every program of the project imports.
SHARED = Path("shared")
_CHANGES = ("created", "modified", "moved", "deleted")
#: Editors' temporary files begin with a dot or a hash, or end otherwise.
_MODULE = re.compile(r"[A-Za-z_]\w*\.py")

#: Told (services, problem). No problem: these are to be restarted with what was changed. Else a sentence that
#: names file and line, and these are to be left as they are until it is mended.
Report = Callable[[frozenset[str], str], None]


class Reloader:
    """Watches code and tells which services a change concerns.

    A service is reported once its changed files can be compiled. One whose code cannot is held back, whatever
    else is changed, and reported as soon as the mistake is mended. A save that changes nothing is no change.
    """

    def __init__(self, root: Path, names: Mapping[str, tuple[Path, ...]], report: Report) -> None:
        """Make a reloader.

        Args:
            root: What the paths are relative to.
            names: By service, the folders of its code (see `find_code`).
            report: Called from the reloader's thread, one call at a time.
        """
        self._root = root.resolve()
        self._names = {name: tuple(self._root / path for path in paths) for name, paths in names.items()}
        self._report = report
        self._changed: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._observer = Observer()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        #: What was last seen of each file.
        self._digests: dict[Path, bytes] = {}
        #: Files that cannot be compiled, with the sentence that says why.
        self._broken: dict[Path, str] = {}
        #: Services that a change concerned and that are not reported yet.
        self._due: set[str] = set()

    def start(self) -> None:
        """Begin to watch.

        Raises:
            BadConfig: There is nothing to watch, or the system watches no more files.
        """
        folders = {path for paths in self._names.values() for path in paths if path.is_dir()}
        if not folders:
            raise BadConfig(f"--reload: there is no code of the functions in {self._root}")
        handler = _Handler(self._changed.put)
        try:
            for folder in folders:
                self._observer.schedule(handler, str(folder), recursive=True)
            self._observer.start()
        except OSError as exc:
            raise BadConfig(
                f"--reload: the code cannot be watched: {exc.strerror or exc} "
                "(the sysctl fs.inotify.max_user_watches raises the limit)"
            ) from exc
        # After the watch has begun, so that no change falls between the two.
        for folder in folders:
            for path in folder.rglob("*.py"):
                if is_code(path):
                    self._digests[path] = _read_digest(path)
        self._thread.start()

    def stop(self) -> None:
        """End; no report is made after it."""
        self._changed.put(None)
        if self._thread.is_alive():
            self._thread.join()
        if self._observer.is_alive():
            # It complains of changes that come while it ends.
            logging.getLogger("watchdog.observers").setLevel(logging.CRITICAL)
            self._observer.stop()
            self._observer.join()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch is None:
                return
            self._take(batch)

    def _gather(self) -> set[Path] | None:
        """Wait for changes, and for the end of them; None at the end of all."""
        first = self._changed.get()
        if first is None:
            return None
        batch, deadline = {first}, time.monotonic() + LONGEST_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                path = self._changed.get(timeout=min(QUIET_S, left_s))
            except queue.Empty:
                break
            if path is None:
                return None
            batch.add(path)
        return batch

    def _take(self, batch: Iterable[Path]) -> None:
        changed = [path for path in batch if self._is_changed(path)]
        new_problem = ""
        for path in changed:
            self._broken.pop(path, None)
            problem = find_problem(path, self._root)
            if problem:
                self._broken[path] = new_problem = problem
            self._due |= self._concerned(path)
        held = {name for path in self._broken for name in self._concerned(path)} & self._due
        ready, self._due = self._due - held, held
        if new_problem and held:
            self._report(frozenset(held), new_problem)
        if ready:
            self._report(frozenset(ready), "")

    def _is_changed(self, path: Path) -> bool:
        before, now = self._digests.get(path, b""), _read_digest(path)
        self._digests[path] = now
        return before != now

    def _concerned(self, path: Path) -> set[str]:
        return {
            name
            for name, folders in self._names.items()
            if any(path.is_relative_to(folder) for folder in folders)
        }


class _Handler(FileSystemEventHandler):
    """Hands on the paths of code that was changed."""

    def __init__(self, put: Callable[[Path], None]) -> None:
        self._put = put

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _CHANGES or event.is_directory:
            return
        for name in (event.src_path, event.dest_path):
            path = Path(name if isinstance(name, str) else name.decode())
            if is_code(path):
                self._put(path)


def is_code(path: Path) -> bool:
    """Tell whether a path is a module, and not what an editor or Python keep beside it."""
    return _MODULE.fullmatch(path.name) is not None and "__pycache__" not in path.parts


def find_code(command: Sequence[str]) -> tuple[Path, ...]:
    """Find the folders of the code that a container's command runs, relative to the root of the project.

    A function is named by `--source=functions/upload/main.py`, another program by `-m functions.collect.x`.
    """
    for word, following in zip(command, [*command[1:], ""], strict=True):
        option, _, value = word.partition("=")
        if option == "--source":
            return Path(value or following).parent, SHARED
        if word == "-m":
            return Path(*following.split(".")[:-1]), SHARED
    return (SHARED,)


def find_problem(path: Path, root: Path) -> str:
    """Say why a file cannot be compiled, in one line; empty where it can, or is gone."""
    name = path.relative_to(root) if path.is_relative_to(root) else path
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        return ""
    except SyntaxError as exc:
        return f"{name}, line {exc.lineno or 1}: {exc.msg}"
    except (OSError, ValueError, RecursionError, MemoryError) as exc:
        return f"{name}: {exc}"
    return ""


def _read_digest(path: Path) -> bytes:
    """Tell contents apart; empty where there is no file."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return b""
