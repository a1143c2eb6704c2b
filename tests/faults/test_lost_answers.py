"""Requests that etcd does and whose answers are lost: repeated, and yet done once."""

from __future__ import annotations

import os

from tests.faults.accounting import Raw, compare, read_all
from tests.faults.doubling import running_source
from tests.faults.kills import SETTINGS
from tests.faults.load import Load
from tests.faults.losing_proxy import LosingProxy
from tests.functions import running
from tests.waiting import wait_until

#: An attempt of collect must not fail often: a message whose attempts fail five times in a row is buried.
ONE_IN_OF_UPLOAD, ONE_IN_OF_COLLECT = 30, 20
LOST = 15


def test_answers_of_etcd_are_lost(etcd_endpoint, prefix, tmp_path, chance, say, scale):
    env = {**os.environ, **SETTINGS, "ETCD_ENDPOINTS": etcd_endpoint, "MESSAGE_QUEUE_PREFIX": prefix}
    with (
        LosingProxy(etcd_endpoint, chance, one_in=ONE_IN_OF_UPLOAD) as to_upload,
        LosingProxy(etcd_endpoint, chance, one_in=ONE_IN_OF_COLLECT) as to_collect,
        running("upload", tmp_path, etcd=to_upload.endpoint, prefix=prefix) as upload,
        running("collect", tmp_path, etcd=to_collect.endpoint, prefix=prefix, **SETTINGS) as collect,
        running("query", tmp_path, etcd=etcd_endpoint, prefix=prefix) as query,
        running_source(tmp_path, env, collect.url),
        Raw([etcd_endpoint], prefix) as raw,
        Load(upload.url, "lost", pause_s=0.02) as load,
    ):
        wait_until(lambda: min(to_upload.lost, to_collect.lost) >= LOST * scale, 120 * scale)
        load.stop()
        to_collect.losing = False
        dead = raw.settle(collect.url)
        wanted = load.keys()
        rows = compare(read_all(query.url), wanted)
        _, repeated = raw.compare(wanted, repeats=True)
    say(
        f"{to_upload.lost} answers lost to upload, {to_collect.lost} to collect; {len(load.acknowledged)} uploads "
        f"acknowledged, {load.repeated} attempts repeated, {rows} rows compared ({repeated} of them stored again), "
        f"{dead} dead letters replayed"
    )
