"""A program as a container: what `instance.Child` is for a process, with the same verbs."""

from __future__ import annotations

from local_runtime.containers.engine import Engine
from local_runtime.containers.life import Life
from local_runtime.instance import ChildSpec, accepts


class Container:
    """A program in a container; started and stopped any number of times, in a new container each.

    Every method returns at once. What went wrong is said in the log as well: that the program could not be
    started, and why, or that it took more memory than its limit.
    """

    def __init__(self, spec: ChildSpec, engine: Engine) -> None:
        self.spec = spec
        self._engine = engine
        #: The container of the last start; None when it was never started, or cleared.
        self._life: Life | None = None
        self._former: Life | None = None

    @property
    def pid(self) -> int | None:
        """The process id on this machine; None until it runs."""
        return None if self._life is None else self._life.pid

    def start(self) -> None:
        """Create and start a container, once the one before is gone; its log continues where it was."""
        self._life = Life(self.spec, self._engine, former=self._former)
        self._life.begin()

    def exit_code(self) -> int | None:
        """Return how the program ended, negative: by a signal; None until it did, or was never started."""
        return None if self._life is None else self._life.exit_code

    def describe_exit(self) -> str:
        """Say how the program ended, also what an exit code cannot tell; empty until it did."""
        return "" if self._life is None else self._life.describe_exit()

    def is_ready(self) -> bool:
        """Whether the program runs and its probe succeeds: by default that its port, if any, accepts."""
        if self._life is None or not self._life.started or self._life.exit_code is not None:
            return False
        if self.spec.probe is not None:
            return self.spec.probe()
        return self.spec.address is None or accepts(self.spec.address)

    def terminate(self) -> None:
        """Ask the program to end (SIGTERM); whoever asked waits with `exit_code` and then calls `clear`."""
        if self._life is not None:
            self._life.terminate()

    def clear(self) -> None:
        """Kill and remove the container; afterwards it counts as never started."""
        if self._life is not None:
            self._life.remove()
            self._former, self._life = self._life, None
