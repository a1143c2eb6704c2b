"""`--backend docker`: connects to an engine, has the image ready, makes containers and leaves none behind."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import docker
from docker.errors import APIError

from local_runtime.containers.container import Container
from local_runtime.containers.engine import ENGINE_ERRORS, Engine, explain, release, remove_container
from local_runtime.containers.image import find_image, has_image
from local_runtime.containers.tokens import TokenCopy
from local_runtime.instance import ChildSpec
from local_runtime.ports import is_loopback
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
    """An engine, for one run of the runtime on one data directory."""

    def __init__(
        self,
        data_dir: Path,
        tell: Callable[[str, str], None],
        *,
        sources: Path,
        image: str = "",
        base_image: str = "",
        auth_tokens: Path | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect, remove what a runtime that was killed has left, find or build the image: minutes, maybe.

        Args:
            data_dir: The data directory, whose lock the caller holds.
            tell: Told (name, sentence) of what takes long.
            sources: The folder with the Dockerfile.
            image: An image to take as it is, instead of the one of the sources.
            base_image: What to build on; empty: what the Dockerfile says.
            auth_tokens: The file of tokens that the functions are to ask for.
            on_change: Called, in some thread, when a container has started or ended.

        Raises:
            BadConfig: No engine answers, this user may not use it, or it does not have the image.
            PipelineError: The image cannot be built.
        """
        self._api = connect()
        self._labels = {DATA_DIR_LABEL: str(data_dir.absolute())}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")
        left = self.sweep()
        if left:
            some = "1 container" if left == 1 else f"{left} containers"
            tell("docker", f"removed {some} that a killed runtime had left")
        self._find_image = partial(self._choose_image, image, sources, base_image, tell)
        image_now = self._find_image()
        self._tokens = TokenCopy(auth_tokens, data_dir) if auth_tokens else None
        self._engine = Engine(
            api=self._api,
            threads=self._threads,
            image=image_now,
            labels=self._labels,
            tokens_folder=self._tokens.folder if self._tokens else None,
            on_change=on_change,
        )
        self._events = self._api.events(
            decode=True, filters={"event": "oom", "label": f"{DATA_DIR_LABEL}={data_dir.absolute()}"}
        )
        self._watcher = threading.Thread(target=self._watch_memory, name="container-events", daemon=True)
        self._watcher.start()

    def make(self, spec: ChildSpec) -> Container:
        """Make a container of a spec; it is not started."""
        return Container(spec, self._engine)

    def refresh_image(self) -> None:
        """Find or build the image of the sources as they are now, for what is made from now on; waits for it.

        Raises:
            PipelineError: It cannot be built; what is made stays what it was.
        """
        self._engine = replace(self._engine, image=self._find_image())

    def sweep(self) -> int:
        """Remove every container of this data directory, within seconds, and return how many there were.

        Raises:
            PipelineError: The engine does not answer.
        """
        label = next(f"{key}={value}" for key, value in self._labels.items())
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        try:
            count = len(found := self._list(label))
            while found and time.monotonic() < deadline:
                wait([self._threads.submit(self._remove, each) for each in found], timeout=_CLOSE_TIMEOUT_S)
                # What somebody else was removing is on its way out.
                found = self._list(label)
        except ENGINE_ERRORS as exc:
            raise PipelineError(f"the engine does not list its containers: {explain(exc)}") from exc
        return count

    def close(self) -> None:
        """Remove what is left and let the engine go; bounded, and safe to call twice."""
        try:
            self.sweep()
        except PipelineError as exc:
            log.warning("%s", exc, extra={"action": "containers_left"})
        if self._tokens is not None:
            self._tokens.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(OSError):  # the engine may have closed it
            self._events.close()
        self._watcher.join(_CLOSE_TIMEOUT_S)
        self._api.close()

    def _choose_image(
        self, image: str, sources: Path, base_image: str, tell: Callable[[str, str], None]
    ) -> str:
        if not image:
            return find_image(self._api, sources, base_image=base_image, tell=tell)
        if not has_image(self._api, image):
            raise BadConfig(f"the engine has no image {image!r}: docker images lists those it has")
        return image

    def _list(self, label: str) -> list[str]:
        return [each["Id"] for each in self._api.containers(all=True, filters={"label": label})]

    def _remove(self, container: str) -> None:
        try:
            remove_container(self._api, container)
        except ENGINE_ERRORS as exc:
            log.warning(
                "container %.12s is left: %s", container, explain(exc), extra={"action": "container_left"}
            )

    def _watch_memory(self) -> None:
        """Kill the whole of a container whose memory ran out, as a cluster does.

        The kernel kills one process only, which may be a worker that its parent starts again and again.
        """
        try:
            for event in self._events:
                # It may have been the only one.
                with contextlib.suppress(APIError):
                    self._api.kill(event["id"])
        except ENGINE_ERRORS as exc:
            log.warning("no news of the engine: %s", explain(exc), extra={"action": "engine_lost"})
        finally:
            release(self._events)


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
