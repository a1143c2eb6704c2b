"""The image that instances run in: found by what goes into it, or built of the Dockerfile."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound
from docker.utils.build import exclude_paths

from local_runtime.containers.engine import ENGINE_ERRORS, explain
from shared.errors import BadConfig, PipelineError

#: Of a build that takes long, pip in its quiet way says nothing for a while.
_BUILD_TIMEOUT_S = 900
#: How much of a step is told.
_SHOWN_CHARACTERS = 60


def find_image(
    api: docker.APIClient, folder: Path, *, base_image: str, tell: Callable[[str, str], None]
) -> str:
    """Return the image of the sources in a folder; it is built if the engine has none of them yet.

    Args:
        api: The engine.
        folder: Has the Dockerfile, and beside it what goes into the image.
        base_image: What to build on; empty: what the Dockerfile says.
        tell: Told (name, sentence) how far a build is.

    Raises:
        BadConfig: There is no Dockerfile.
        PipelineError: The image cannot be built.
    """
    if not (folder / "Dockerfile").is_file():
        raise BadConfig(
            f"there is no Dockerfile in {folder} to build the image of: --image NAME takes one that was built"
        )
    tag = f"gpu-telemetry:{digest_sources(folder, base_image)}"
    if has_image(api, tag):
        return tag
    tell("image", f"building {tag}, which takes a minute or two the first time")
    _build(api, folder, tag, {"BASE_IMAGE": base_image} if base_image else {}, tell)
    return tag


def has_image(api: docker.APIClient, name: str) -> bool:
    """Whether the engine has an image of a name."""
    try:
        api.inspect_image(name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True


def digest_sources(folder: Path, base_image: str) -> str:
    """Digest all that goes into the image: what changes it changes the digest, and nothing else does."""
    ignored = folder / ".dockerignore"
    patterns = ignored.read_text().splitlines() if ignored.exists() else []
    digest = hashlib.sha256(base_image.encode())
    for path in sorted(exclude_paths(str(folder), [p for p in patterns if p and not p.startswith("#")])):
        file = folder / path
        if file.is_file():
            digest.update(f"\0{path}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def parse_progress(event: dict[str, Any]) -> str | None:
    """Return what a person is told of an event of a build, if anything: the steps that take time."""
    step = re.match(r"Step (\d+)/(\d+) : RUN (.*)", str(event.get("stream", "")))
    if step is None:
        return None
    what = " ".join(step[3].split())
    shown = what if len(what) <= _SHOWN_CHARACTERS else what[: _SHOWN_CHARACTERS - 3] + "..."
    return f"step {step[1]} of {step[2]}: {shown}"


def _build(
    api: docker.APIClient,
    folder: Path,
    tag: str,
    arguments: dict[str, str],
    tell: Callable[[str, str], None],
) -> None:
    said: list[str] = []
    try:
        events = api.build(
            path=str(folder),
            tag=tag,
            buildargs=arguments,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_BUILD_TIMEOUT_S,
            # Where containers have no way out of their own, pip still finds its index.
            network_mode="host",
        )
        for event in events:
            if "error" in event:
                raise PipelineError(describe_failure(str(event["error"]), said))
            said.append(str(event.get("stream", "")))
            progress = parse_progress(event)
            if progress is not None:
                tell("image", progress)
    except ENGINE_ERRORS as exc:
        raise PipelineError(f"the image cannot be built: {explain(exc)}") from exc


def describe_failure(error: str, said: list[str]) -> str:
    """Say why a build failed, with the way out where the base image is the matter."""
    reason = " ".join(error.split())
    last = [line.strip() for line in "".join(said).splitlines() if line.strip()][-1:]
    if last and last[0].startswith("Step") and " : FROM" in last[0]:
        return (
            f"the image cannot be built: its base cannot be had ({reason}): "
            "BASE_IMAGE=NAME takes one that the engine has, --image NAME another image as it is"
        )
    return "the image cannot be built: " + ": ".join([reason, *last])
