"""The REST answers about which GPUs and hosts there are."""

from __future__ import annotations

from typing import Any

from flask import Request, Response

from functions.query.inventory import Inventory
from functions.query.render import render_gpus
from shared.api import gpus as api
from shared.http import Route, data_response


class GpuRoutes:
    """The routes of GPUs and hosts."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(api.LIST_GPUS, self._list_gpus), Route(api.LIST_HOSTS, self._list_hosts)]

    def _list_gpus(self, _request: Request, wanted: api.GpusWanted) -> Response:
        summary = self._inventory.with_status(wanted.as_of)
        gpus = [] if summary is None else render_gpus(summary)
        gpus.sort(key=lambda g: (g["hostname"] or "", _numeric(g["id"] or ""), g["uuid"]))
        return data_response(gpus, count=len(gpus))

    def _list_hosts(self, _request: Request, wanted: api.GpusWanted) -> Response:
        summary = self._inventory.with_status(wanted.as_of)
        hosts: dict[str, dict[str, Any]] = {}
        for gpu in [] if summary is None else render_gpus(summary):
            name = gpu["hostname"]
            if name is None:
                continue
            host = hosts.setdefault(name, {"hostname": name, "status": "stale", "gpu_count": 0})
            host["gpu_count"] += 1
            if gpu["status"] == "active":
                host["status"] = "active"
        return data_response([hosts[name] for name in sorted(hosts)], count=len(hosts))


def _numeric(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isascii() and text.isdigit() else (2**31, text)
