"""The REST answers about which hosts there are, and which GPUs each has."""

from __future__ import annotations

import orjson
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.filters import select_gpus
from functions.query.gpus import render_page
from functions.query.groups import group_gpus
from functions.query.inventory import Inventory, View
from functions.query.kept import KeptAnswers
from shared.api import hosts as api
from shared.errors import NotFound
from shared.http import Route
from shared.records import chunk


class HostRoutes:
    """The routes of hosts."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._kept = KeptAnswers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(api.LIST_HOSTS, self._list_hosts), Route(api.HOST_GPUS, self._host_gpus)]

    def _list_hosts(self, request: Request, wanted: api.HostFilter) -> Response:
        view = self._inventory.view(wanted.as_of)
        return self._kept.answer(request, (view.state, wanted), lambda: _render_hosts(view, wanted))

    def _host_gpus(self, request: Request, wanted: api.HostGpusWanted) -> Response:
        view = self._inventory.view(wanted.as_of)
        name = wanted.hostname
        gpus = view.known.summary
        there = pc.equal(chunk(gpus, "hostname"), name) if "hostname" in gpus.column_names else None
        if there is None or not pc.any(there).as_py():
            raise NotFound(f"there is no host {name!r}: /api/v1/hosts lists them")
        # The name is exact here; as a filter it still matches itself.
        return self._kept.answer(
            request, (view.state, wanted), lambda: render_page(view.gpus.filter(there), wanted)
        )


def _render_hosts(view: View, wanted: api.HostFilter) -> bytes:
    gpus = select_gpus(view.gpus, wanted.model_copy(update={"status": None}))
    hosts = [
        {
            "hostname": group.name,
            "status": group.status,
            "gpu_count": group.gpus,
            "active": group.active,
            "stale": group.gpus - group.active,
            "clusters": group.others["cluster"],
            "models": group.others["modelname"],
            "first_seen": group.first_seen,
            "last_seen": group.last_seen,
        }
        for group in group_gpus(gpus, "hostname", ("cluster", "modelname"))
        if wanted.status in (None, group.status)
    ]
    return orjson.dumps({"success": True, "data": hosts, "count": len(hosts)}) + b"\n"
