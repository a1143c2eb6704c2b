"""What all containers of a runtime have in common, and what an engine's answers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException
from docker.types import CancellableStream

from local_runtime.guard import Guard

#: What talking to the engine raises.
ENGINE_ERRORS = (DockerException, requests.RequestException, OSError)


@dataclass(kw_only=True)
class Engine:
    """An engine, and what it is to start; one for all containers, which ask it anew at each start."""

    api: docker.APIClient
    #: Where short calls are made, so that nobody waits for them.
    threads: Executor
    #: What programs run in; another one once the sources have changed.
    image: str
    #: How the containers of a data directory are found again.
    labels: Mapping[str, str]
    #: A folder with the file `tokens`, which the containers' user may read; None: none are asked for.
    tokens_folder: Path | None = None
    #: Ends what runs should this process vanish; None: nobody does.
    guard: Guard | None = None
    #: Called, in any thread, when a container has started or ended: whoever waits for that may look.
    on_change: Callable[[], None] = lambda: None


def remove_container(api: docker.APIClient, container: str) -> None:
    """Kill and remove a container that may be gone, or on its way out.

    Raises:
        DockerException: It stays.
    """
    try:
        api.remove_container(container, force=True, v=True)
    except APIError as exc:
        if exc.status_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise


def release(stream: CancellableStream[Any]) -> None:
    """Close the connection of a stream that has ended, or that nobody reads; the SDK never does."""
    stream._response.close()  # type: ignore[attr-defined]  # noqa: SLF001


def find_process(container: str, pid: int) -> int | None:
    """Return the process id of a container's first process, if it is one of this machine's; None: it is not.

    An engine that runs in a machine or container of its own tells ids that mean something else here.
    """
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    return pid if container in groups else None


def explain(error: BaseException) -> str:
    """Say in one line what the engine said, without how it was asked."""
    if isinstance(error, APIError) and error.explanation:
        return " ".join(str(error.explanation).split())
    if isinstance(error, requests.Timeout):
        return "the docker engine takes too long to answer"
    if isinstance(error, requests.RequestException | OSError) and not isinstance(error, APIError):
        return "the docker engine does not answer"
    return " ".join(str(error).split()) or type(error).__name__
