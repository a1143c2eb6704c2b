"""Containers on a real engine, for tests that are skipped where none answers."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings

import pytest

from local_runtime.containers.backend import DockerBackend, connect
from local_runtime.containers.image import find_image
from local_runtime.plan import REPOSITORY
from shared.errors import PipelineError

#: What the image is built on; empty: what the Dockerfile says. `.ci/docker` makes one where no registry is reached.
BASE_IMAGE = os.environ.get("BASE_IMAGE", "")


def refusal(do):
    """What is said when something is refused; empty when it is not.

    The SDK leaves the socket of a refused connection to the garbage collector, which is to find it here and not
    in the middle of another test.
    """
    try:
        do()
    except PipelineError as exc:
        said = str(exc)
    else:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return said


def need_image():
    """Have the image of the sources; skips where there is no engine, or no base image."""
    if problem := refusal(_find_image):
        pytest.skip(f"no containers here: {problem}")


def _find_image():
    with contextlib.closing(connect()) as api:
        find_image(api, REPOSITORY, base_image=BASE_IMAGE, tell=lambda _name, _text: None)


def start_backend(data_dir, **how):
    told = []
    given = {"sources": REPOSITORY, "base_image": BASE_IMAGE, **how}
    backend = DockerBackend(data_dir, lambda _name, text: told.append(text), **given)
    backend.told = told
    try:
        backend.prepare()
    except PipelineError:
        backend.close()
        raise
    return backend


def list_containers(data_dir):
    """The ids of the containers of a data directory, running or not."""
    with contextlib.closing(connect()) as api:
        label = f"gpu-telemetry.data-dir={data_dir}"
        return [each["Id"] for each in api.containers(all=True, filters={"label": label})]


def read_state(container):
    with contextlib.closing(connect()) as api:
        return api.inspect_container(container)["State"]
