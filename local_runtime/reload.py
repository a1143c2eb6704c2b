"""--reload: which services a change of their code concerns, and whether the code can be started at all."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.utils.event_debouncer import EventDebouncer

from shared.errors import BadConfig

#: Seconds for which changes are gathered: an editor saves in several steps.
QUIET_S = 0.2
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
    else is changed, and reported as soon as the mistake is mended.
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
        self._observer = Observer()
        self._gathering = EventDebouncer(QUIET_S, self._take)
        self._stopping = False
        #: Files that cannot be compiled.
        self._broken: set[Path] = set()
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
        handler = _Handler(self._gathering.handle_event)
        try:
            for folder in folders:
                self._observer.schedule(handler, str(folder), recursive=True)
            self._observer.start()
        except OSError as exc:
            raise BadConfig(
                f"--reload: the code cannot be watched: {exc.strerror or exc} "
                "(the sysctl fs.inotify.max_user_watches raises the limit)"
            ) from exc
        self._gathering.start()

    def stop(self) -> None:
        """End; no report is made after it."""
        self._stopping = True
        # It complains of changes that come while it ends.
        logging.getLogger("watchdog.observers").setLevel(logging.CRITICAL)
        for thread in (self._gathering, self._observer):
            if thread.is_alive():
                thread.stop()
                thread.join()

    def _take(self, events: Iterable[FileSystemEvent]) -> None:
        names = [(e.src_path, e.dest_path) for e in events if e.event_type in _CHANGES and not e.is_directory]
        changed = {path for pair in names for name in pair if is_code(path := Path(os.fsdecode(name)))}
        if not changed or self._stopping:
            return
        problems = {path: problem for path in changed if (problem := find_problem(path, self._root))}
        self._broken = self._broken - changed | problems.keys()
        self._due |= self._concerned(changed)
        held = self._due & self._concerned(self._broken)
        ready, self._due = self._due - held, held
        if problems and held:
            self._report(frozenset(held), next(iter(problems.values())))
        if ready:
            self._report(frozenset(ready), "")

    def _concerned(self, paths: Iterable[Path]) -> set[str]:
        return {
            name
            for path in paths
            for name, folders in self._names.items()
            if any(path.is_relative_to(folder) for folder in folders)
        }


class _Handler(FileSystemEventHandler):
    """Hands on what happens."""

    def __init__(self, hand_on: Callable[[FileSystemEvent], None]) -> None:
        self._hand_on = hand_on

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._hand_on(event)


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
