"""`--backend docker`: connects to an engine, has the image ready, makes containers and leaves none behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import urlsplit

import docker

from local_runtime.containers.container import Container
from local_runtime.containers.engine import ENGINE_ERRORS, Engine, explain, remove_container
from local_runtime.containers.image import find_image, has_image
from local_runtime.containers.tokens import TokenCopy
from local_runtime.containers.watcher import Watcher
from local_runtime.guard import Guard
from local_runtime.instance import ChildSpec
from local_runtime.ports import is_loopback
from local_runtime.supervisor import Tell
from shared.config import read_variable
from shared.errors import BadConfig, PipelineError

log = logging.getLogger(__name__)

#: Says of which data directory's runtime a container is.
DATA_DIR_LABEL = "gpu-telemetry.data-dir"
#: Seconds for one answer of the engine; starting a container on a busy machine takes a few.
_ENGINE_TIMEOUT_S = 30
#: Calls to the engine at a time, besides those that start containers.
_THREADS = 8
#: How long leftovers may take to be removed.
_CLOSE_TIMEOUT_S = 5.0


class DockerBackend:
    """An engine, for one run of the runtime on one data directory: connect, `prepare`, `make`, `close`."""

    def __init__(
        self,
        data_dir: Path,
        tell: Tell,
        *,
        sources: Path,
        image: str = "",
        base_image: str = "",
        auth_tokens: Path | None = None,
    ) -> None:
        """Connect, and remove what a runtime that was killed has left.

        Args:
            data_dir: The data directory, whose lock the caller holds.
            tell: Told what takes long, until everything is prepared.
            sources: The folder with the Dockerfile.
            image: An image to take as it is, instead of the one of the sources.
            base_image: What to build on; empty: what the Dockerfile says.
            auth_tokens: The file of tokens that the functions are to ask for.

        Raises:
            BadConfig: No engine answers, or this user may not use it.
            PipelineError: The engine does not list its containers.
        """
        #: Called, in some thread, when a container has started or ended.
        self.on_change: Callable[[], None] = lambda: None
        self._data_dir = data_dir.absolute()
        self._tell = tell
        self._sources, self._image, self._base_image = sources, image, base_image
        self._auth_tokens = auth_tokens
        self._api = connect()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")
        self._tokens: TokenCopy | None = None
        self._engine: Engine | None = None
        self._watcher: Watcher | None = None
        left = self.sweep()
        if left:
            some = "1 container" if left == 1 else f"{left} containers"
            tell("docker", f"removed {some} that a killed runtime had left")

    def prepare(self) -> None:
        """Find or build the image, and begin to watch; a build takes a minute or two.

        Raises:
            BadConfig: The engine does not have the image that was asked for, or the tokens cannot be read.
            PipelineError: The image cannot be built.
        """
        image = self._find_image(self._tell)
        if self._auth_tokens is not None:
            self._tokens = TokenCopy(self._auth_tokens, self._data_dir)
        self._engine = Engine(
            api=self._api,
            threads=self._threads,
            image=image,
            labels={DATA_DIR_LABEL: str(self._data_dir)},
            tokens_folder=self._tokens.folder if self._tokens else None,
            on_change=self._changed,
        )
        self._watcher = Watcher(self._api, self._label)

    def trust(self, guard: Guard) -> None:
        """Have a guard end what is started from now on, should this process vanish."""
        if self._engine is not None:
            self._engine.guard = guard

    def make(self, spec: ChildSpec) -> Container:
        """Make a container of a spec, once prepared; it is not started."""
        if self._engine is None:
            raise RuntimeError("the backend is not prepared")
        return Container(spec, self._engine)

    def renew_image(self, tell: Tell) -> str:
        """Have what is started from now on run the sources as they are now; waits for a build of seconds.

        Returns:
            What went wrong, if anything: then all stays as it was.
        """
        try:
            image = self._find_image(tell)
        except PipelineError as exc:
            return exc.message
        if self._engine is not None:
            self._engine.image = image
        return ""

    def sweep(self) -> int:
        """Remove every container of this data directory, within seconds, and return how many there were.

        Raises:
            PipelineError: The engine does not answer.
        """
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        try:
            count = len(found := self._list())
            while found and time.monotonic() < deadline:
                wait([self._threads.submit(self._remove, each) for each in found], timeout=_CLOSE_TIMEOUT_S)
                # What somebody else was removing is on its way out.
                found = self._list()
        except ENGINE_ERRORS as exc:
            raise PipelineError(f"the engine does not list its containers: {explain(exc)}") from exc
        return count

    def close(self) -> None:
        """Remove what is left and let the engine go; bounded."""
        try:
            self.sweep()
        except PipelineError as exc:
            log.warning("%s", exc, extra={"action": "containers_left"})
        if self._tokens is not None:
            self._tokens.close()
        if self._watcher is not None:
            self._watcher.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    @property
    def _label(self) -> str:
        return f"{DATA_DIR_LABEL}={self._data_dir}"

    def _changed(self) -> None:
        self.on_change()

    def _find_image(self, tell: Tell) -> str:
        if not self._image:
            return find_image(self._api, self._sources, base_image=self._base_image, tell=tell)
        if not has_image(self._api, self._image):
            raise BadConfig(f"the engine has no image {self._image!r}: docker images lists those it has")
        return self._image

    def _list(self) -> list[str]:
        return [each["Id"] for each in self._api.containers(all=True, filters={"label": self._label})]

    def _remove(self, container: str) -> None:
        try:
            remove_container(self._api, container)
        except ENGINE_ERRORS as exc:
            log.warning(
                "container %.12s is left: %s", container, explain(exc), extra={"action": "container_left"}
            )


def connect() -> docker.APIClient:
    """Connect to the engine that DOCKER_HOST names, or to this machine's.

    Raises:
        BadConfig: None answers, this user may not use it, or it is another machine's.
    """
    host = read_variable("DOCKER_HOST")
    where = host or "/var/run/docker.sock"
    parts = urlsplit(host)
    if parts.scheme in {"tcp", "http", "https", "ssh"} and not is_loopback(parts.hostname or ""):
        raise BadConfig(
            f"--backend docker needs an engine on this machine, whose network its containers share: "
            f"DOCKER_HOST={host} is another machine's"
        )
    try:
        return docker.from_env(timeout=_ENGINE_TIMEOUT_S, max_pool_size=2 * _THREADS).api
    except ENGINE_ERRORS as exc:
        if "Permission denied" in str(exc):
            raise BadConfig(
                f"this user may not use the docker engine at {where}: "
                "join the group docker, or say with DOCKER_HOST where an engine of your own is"
            ) from exc
        raise BadConfig(
            f"no docker engine answers at {where}: start one, say with DOCKER_HOST where it is, "
            "or leave out --backend docker"
        ) from exc
