"""etcd killed under load, alone and as one of three members: nothing that was acknowledged is lost."""

from __future__ import annotations

import signal
from collections import Counter

from tests.faults.accounting import Raw, compare, read_all
from tests.faults.kills import SETTINGS, all_ready, etcd_of, kill_9, until_random_moment
from tests.faults.load import Asker, Load
from tests.faults.members import Cluster
from tests.waiting import wait_until

KILLS = 6
#: Uploads that must get through after each fault, before the next one.
UPLOADS_BETWEEN = 30


def more_uploads(load, count=UPLOADS_BETWEEN):
    """Wait until so many more uploads are acknowledged."""
    had = len(load.acknowledged)
    wait_until(lambda: len(load.acknowledged) >= had + count, 60)


def account(up, endpoints, load, asker):
    load.stop()
    asker.stop()
    with Raw(endpoints) as raw:
        dead = raw.settle(up.urls["collect"])
        wanted = load.keys()
        rows = compare(read_all(up.urls["query"]), wanted)
        # A publish whose answer was lost with etcd is repeated.
        _, repeated = raw.compare(wanted, repeats=True)
    return (
        f"{len(load.acknowledged)} uploads acknowledged, {load.repeated} attempts repeated, {rows} rows "
        f"compared ({repeated} of them stored again), {asker.answers} answers checked meanwhile, "
        f"{dead} dead letters replayed"
    )


def test_etcd_killed_under_load(start, sound_etcd, chance, say, scale):
    up = start("--no-sample", **SETTINGS).wait_ready()
    endpoints = etcd_of(up)
    with (
        Load(up.urls["upload"], "etcd", pause_s=0.02) as load,
        Asker(up.urls["query"], load, chance) as asker,
    ):
        for _ in range(KILLS * scale):
            more_uploads(load)
            until_random_moment(chance, 0.5)
            kill_9(up.processes()["etcd"]["pid"])
            wait_until(lambda: all_ready(up), 30)
        more_uploads(load)
        done = account(up, endpoints, load, asker)
    say(f"etcd killed {KILLS * scale} times: {done}")


def kill_the_leader(cluster, load, _chance):
    leader = cluster.leader()
    leader.end(signal.SIGKILL)
    more_uploads(load)
    cluster.start_again(leader)


def hold_the_leader_still(cluster, load, _chance):
    leader = cluster.leader()
    with cluster.held_still(leader):
        # It still believes that it leads when it comes back.
        cluster.leader(among=cluster.others(leader))
        more_uploads(load)


def hold_a_follower_still(cluster, load, chance):
    with cluster.held_still(chance.choice(cluster.others(cluster.leader()))):
        more_uploads(load)


def stop_and_start_a_member(cluster, load, chance):
    member = chance.choice(cluster.members)
    member.end(signal.SIGTERM)
    more_uploads(load)
    cluster.start_again(member)


FAULTS = (kill_the_leader, hold_the_leader_still, hold_a_follower_still, stop_and_start_a_member)


def test_three_members(start, sound_etcd, tmp_path, chance, say, scale):
    did = Counter()
    with Cluster(sound_etcd, tmp_path) as cluster:
        up = start("--no-sample", f"--etcd-endpoints={','.join(cluster.endpoints)}", **SETTINGS).wait_ready()
        with (
            Load(up.urls["upload"], "members", pause_s=0.02) as load,
            Asker(up.urls["query"], load, chance) as asker,
        ):
            for _ in range(scale):
                for fault in chance.sample(FAULTS, len(FAULTS)):
                    more_uploads(load)
                    until_random_moment(chance, 0.5)
                    fault(cluster, load, chance)
                    cluster.wait_healthy()
                    did[fault.__name__.replace("_", " ")] += 1
            more_uploads(load)
            done = account(up, cluster.endpoints, load, asker)
    say(f"{', '.join(f'{n} x {what}' for what, n in did.items())}: {done}")
