"""kill -9 of every part, at random moments, under load: what was acknowledged is there once, and nothing else."""

from __future__ import annotations

import signal
from collections import Counter

from tests.faults.accounting import Raw, compare, read_all
from tests.faults.kills import SETTINGS, all_ready, etcd_of, kill_service, until_random_moment
from tests.faults.load import Asker, Load
from tests.waiting import wait_until

KILLS = 100
#: Every so many kills it is the runtime's turn, whose guard kills all that it had started, etcd too.
RUNTIME_EVERY = 12
SERVICES = ("upload", "collect", "query", "queue-source")


def start_up(start, **how):
    return start("--no-sample", **how, **SETTINGS).wait_ready()


def test_kill_9_of_everything(start, sound_etcd, chance, say, scale):
    up = start_up(start)
    killed = Counter()
    with (
        Load(up.urls["upload"], "kills", pause_s=0.03) as load,
        Asker(up.urls["query"], load, chance) as asker,
    ):
        for number in range(1, KILLS * scale + 1):
            until_random_moment(chance, 0.8)
            if number % RUNTIME_EVERY:
                killed[kill_service(up, chance.choice(SERVICES), chance)] += 1
            else:
                up.end(signal.SIGKILL)
                up = start_up(start, ports=up.ports)
                killed["runtime"] += 1
        load.stop()
        asker.stop()
    with Raw(etcd_of(up)) as raw:
        dead = raw.settle(up.urls["collect"])
        wait_until(lambda: all_ready(up), 30)
        wanted = load.keys()
        rows = compare(read_all(up.urls["query"]), wanted)
        raw.compare(wanted)
    say(f"{killed.total()} kills: {', '.join(f'{n} {name}' for name, n in sorted(killed.items()))}")
    say(
        f"{len(load.acknowledged)} uploads acknowledged, {load.repeated} attempts repeated, {rows} rows "
        f"compared, {asker.answers} answers checked meanwhile, {dead} dead letters replayed"
    )
