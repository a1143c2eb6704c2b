"""The REST answers about which GPUs there are."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.filters import select_gpus
from functions.query.gpu_pages import cut_page, order_gpus
from functions.query.inventory import Inventory, View, resolve
from functions.query.kept import KeptAnswers
from functions.query.objects import render_objects
from functions.query.render import format_times
from shared.api import gpus as api
from shared.fields import FIELDS
from shared.http import Route
from shared.records import FIRST_MS, FIRST_SEEN, LAST_MS, STATUS, chunk, metric_names

#: The labels of a GPU, by what its member is called.
_MEMBERS = {
    "id": "gpu_id",
    "uuid": "uuid",
    "hostname": "hostname",
    "name": "modelname",
    "device": "device",
    "status": STATUS,
    "cluster": "cluster",
    "pod": "pod",
    "namespace": "namespace",
    "container": "container",
    "driver_version": "driver_version",
    "gpu_instance_id": "gpu_instance_id",
    "gpu_instance_profile": "gpu_instance_profile",
}


class GpuRoutes:
    """The routes of GPUs."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._kept = KeptAnswers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.LIST_GPUS, self._list_gpus),
            Route(api.GET_GPU, self._get_gpu),
        ]

    def _list_gpus(self, request: Request, wanted: api.GpuPage) -> Response:
        view = self._inventory.view(wanted.as_of)
        depends = (view.state, wanted)
        return self._kept.answer(request, depends, lambda: render_page(view.gpus, wanted))

    def _get_gpu(self, request: Request, wanted: api.GpuWanted) -> Response:
        view = self._inventory.view(wanted.as_of)
        uuid = resolve(view.known.summary, wanted.gpu, wanted.hostname)
        [gpu] = view.gpus.filter(pc.equal(view.gpus.column("uuid"), uuid)).to_pylist()
        depends = ("gpu", view.known.version, gpu[STATUS], uuid)
        return self._kept.answer(request, depends, lambda: _render_gpu(view, uuid))


def render_page(gpus: pa.Table, wanted: api.GpuPage) -> bytes:
    """Write a page of GPUs, which come with their status."""
    found = order_gpus(select_gpus(gpus, wanted))
    question = wanted.model_copy(update={"limit": None, "cursor": None})
    page = cut_page(found, question, wanted.limit, wanted.cursor)
    after = (page.gpus.num_rows, orjson.dumps(page.next))
    return b'{"success":true,"data":[%s],"count":%d,"next":%s}\n' % (_render_gpus(page.gpus), *after)


def _render_gpus(gpus: pa.Table) -> bytes:
    """Write GPUs with status as JSON objects with commas between them."""
    columns = {
        member: chunk(gpus, name) if name in gpus.column_names else None for member, name in _MEMBERS.items()
    }
    columns["first_seen"] = format_times(chunk(gpus, FIRST_MS))
    columns["last_seen"] = format_times(chunk(gpus, LAST_MS))
    return render_objects(columns, gpus.num_rows)


def _render_gpu(view: View, uuid: str) -> bytes:
    gpu = _render_gpus(view.gpus.filter(pc.equal(view.gpus.column("uuid"), uuid)).combine_chunks())
    latest = orjson.dumps(find_newest(view.known.inventory, uuid))
    return b'{"success":true,"data":%s,"latest":%s}}\n' % (gpu[:-1], latest)


def find_newest(inventory: pa.Table, uuid: str) -> dict[str, dict[str, Any]]:
    """Find the newest value of each metric of one GPU, and when it was reported."""
    uuids = chunk(inventory, "uuid")
    code = pc.index(uuids.dictionary, uuid)
    rows = inventory.filter(pc.equal(uuids.indices, code.cast(pa.int32())))
    times = format_times(chunk(rows, "timestamp").cast(pa.int64())).to_pylist()
    newest = {}
    # Rows are in order of time, and of one time in that of their versions.
    for name in sorted(set(metric_names(rows)) - {FIRST_SEEN}):
        for value, time in zip(reversed(rows.column(name).to_pylist()), reversed(times), strict=True):
            if value is not None:
                unit = FIELDS[name].unit if name in FIELDS else ""
                newest[name] = {"value": value, "unit": unit, "timestamp": time}
                break
    return newest
