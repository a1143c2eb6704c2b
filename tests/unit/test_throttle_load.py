"""How a throttle balances and measures the load; and that nothing is lost, whatever happens when."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from local_runtime.activator import throttle as throttles
from local_runtime.activator.balance import RoundRobin, better_of_two
from local_runtime.activator.throttle import QueueFull
from tests.unit.throttling import Clock, address, build, cancelled, counters, in_loop, waiting


@in_loop
async def test_the_first_free_one_is_taken_where_few_may_be_worked_on():
    throttle = build(2, "a", "b", "c")
    leases = [await throttle.acquire() for _ in range(5)]
    assert [lease.name for lease in leases] == ["a", "a", "b", "b", "c"]
    leases[0].release()
    assert (await throttle.acquire()).name == "a"


@in_loop
async def test_all_take_turns_where_more_may_be_worked_on():
    throttle = build(4, "a", "b", "c")
    names = [(await throttle.acquire()).name for _ in range(12)]
    assert names == ["a", "b", "c"] * 4
    throttle = build(4, "a", "b")
    full = [await throttle.acquire() for _ in range(7)]
    full[1].release()
    assert [(await throttle.acquire()).name for _ in range(2)] == ["b", "b"]


def test_taking_turns_passes_over_the_full_ones():
    class Instance:
        def __init__(self, in_flight):
            self.in_flight = in_flight

    choose, instances = RoundRobin(4), [Instance(0), Instance(4), Instance(0)]
    assert [instances.index(choose(instances)) for _ in range(4)] == [0, 2, 0, 2]
    assert choose([Instance(4)]) is None
    assert choose([]) is None


@in_loop
async def test_the_better_of_two_is_taken_where_there_is_no_limit():
    random.seed(1)
    throttle = build(0, "a", "b", "c")
    names = Counter([(await throttle.acquire()).name for _ in range(300)])
    assert sorted(names) == ["a", "b", "c"]
    assert max(names.values()) - min(names.values()) < 10
    assert throttle.queued == 0


def test_the_better_of_two_has_less_to_do():
    class Instance:
        def __init__(self, in_flight):
            self.in_flight = in_flight

    busy, idle = Instance(3), Instance(1)
    assert {better_of_two([busy, idle]) for _ in range(20)} == {idle}
    assert better_of_two([busy]) is busy
    assert better_of_two([]) is None


@in_loop
async def test_the_load_is_weighed_by_time():
    clock = Clock()
    throttle = build(1, "a", clock=clock)
    lease = await throttle.acquire()  # one for 4 s
    clock.now_s += 1
    [task] = await waiting(throttle)  # and one that waits for 2 s
    clock.now_s += 2
    await cancelled(task)
    clock.now_s += 1
    lease.release()
    clock.now_s += 6
    throttle.add_rows(3)
    throttle.add_rows(4)
    load = throttle.read_load(clock.now_s)
    assert (load.concurrency, load.requests, load.rows) == (pytest.approx(0.6), 2, 7)
    clock.now_s += 1
    load = throttle.read_load(clock.now_s)
    assert (load.concurrency, load.requests, load.rows) == (0, 0, 0)


@in_loop
async def test_what_waits_counts_as_what_is_worked_on():
    clock = Clock()
    throttle = build(1, clock=clock)
    tasks = await waiting(throttle, 3)
    clock.now_s += 1
    throttle.open("a", address("a"))
    clock.now_s += 1
    assert throttle.read_load(clock.now_s).concurrency == pytest.approx(3)
    # Read at the moment of the last reading, it is what it is now.
    assert throttle.read_load(clock.now_s).concurrency == 3
    (await tasks[0]).release()
    clock.now_s += 1
    assert throttle.read_load(clock.now_s).concurrency == pytest.approx(2)
    await cancelled(tasks[2])
    (await tasks[1]).release()


@in_loop
async def test_a_refused_request_arrived_too():
    throttle = build(1, "a", max_scale=1)
    await throttle.acquire()
    tasks = await waiting(throttle, 10)
    with pytest.raises(QueueFull):
        await throttle.acquire()
    assert throttle.read_load(101.0).requests == 12
    await cancelled(*tasks)


class Storm:
    """Requests and instances that come and go by chance."""

    def __init__(self, concurrency, seed):
        self.chance = random.Random(seed)
        self.throttle = build(concurrency)
        self.concurrency = concurrency
        self.served = Counter()
        self.tasks = []
        self.names = iter(range(10_000))

    async def ask(self, number):
        lease = await self.throttle.acquire()
        try:
            if self.chance.random() < 0.1 and lease.fail():
                lease = await self.throttle.acquire_again()
            assert not self.concurrency or self.throttle.in_flight_of(lease.name) <= self.concurrency
            for _ in range(self.chance.randrange(3)):
                await asyncio.sleep(0)
            self.served[number] += 1
        finally:
            lease.release()

    def act(self):
        """Open, close or leave."""
        opened = self.throttle.open_names
        action = self.chance.choice(["open", "close", "leave"])
        if action == "open" and len(opened) < 4:
            self.throttle.open(f"i{next(self.names)}", ("127.0.0.1", 1))
        elif action == "close" and opened:
            self.throttle.close(self.chance.choice(opened))
        elif action == "leave":
            self.chance.choice(self.tasks).cancel()

    async def rage(self, count):
        """Return how many were served, and how many left."""
        for number in range(count):
            self.tasks.append(asyncio.create_task(self.ask(number)))
            self.act()
            for _ in range(self.chance.randrange(3)):
                await asyncio.sleep(0)
        self.throttle.open("last", ("127.0.0.1", 1))
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert {type(outcome) for outcome in ended} <= {type(None), asyncio.CancelledError}
        return sum(self.served.values()), sum(outcome is not None for outcome in ended)


@pytest.mark.parametrize("concurrency", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_whatever_happens_when(concurrency, seed, monkeypatch):
    monkeypatch.setattr(throttles, "AVOIDED_S", 0.0)
    storm = Storm(concurrency, seed)
    served, left = asyncio.run(storm.rage(400))
    throttle = storm.throttle
    assert counters(throttle) == (0, 0)
    assert not any(throttle.in_flight_of(name) for name in throttle.open_names)
    assert not throttle._closing
    # One that left while it was served counts as both.
    assert served <= 400 <= served + left
    assert served > 300
    assert max(storm.served.values()) == 1
