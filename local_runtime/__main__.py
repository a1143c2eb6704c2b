"""`python -m local_runtime`: the command `gpu-telemetry`."""

from __future__ import annotations

from local_runtime.cli import main

main()
