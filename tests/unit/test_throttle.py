"""Who gets to which instance and who waits: decisions in a loop, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import wraps

import pytest

from local_runtime.activator import throttle as throttles
from local_runtime.activator.balance import RoundRobin, better_of_two
from local_runtime.activator.throttle import Limits, QueueFull, Throttle


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def in_loop(test):
    """Run a test in a loop of its own; every task has to end with it."""

    @wraps(test)
    def run(*args, **more):
        async def all_of_it():
            await test(*args, **more)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(all_of_it())

    return run


def build(concurrency=1, *instances, max_scale=10, clock=None, on_arrival=lambda: None):
    throttle = Throttle(
        Limits(container_concurrency=concurrency, max_scale=max_scale),
        on_arrival=on_arrival,
        clock=clock or Clock(),
    )
    for name in instances:
        throttle.open(name, address(name))
    return throttle


def address(name):
    return "127.0.0.1", 1000 + ord(name)


async def settle():
    """Let everything that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def waiting(throttle, count=1):
    """Have so many requests wait, in order."""
    tasks = [asyncio.create_task(throttle.acquire()) for _ in range(count)]
    await settle()
    return tasks


async def cancelled(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


def counters(throttle):
    return throttle.in_flight, throttle.queued


@in_loop
async def test_a_lease_names_its_instance_and_counts_until_it_is_released():
    throttle = build(2, "a")
    lease = await throttle.acquire()
    assert (lease.name, lease.address) == ("a", address("a"))
    assert (counters(throttle), throttle.in_flight_of("a")) == ((1, 0), 1)
    lease.release()
    lease.release()
    assert (counters(throttle), throttle.in_flight_of("a")) == ((0, 0), 0)


@in_loop
async def test_no_instance_works_on_more_than_its_concurrency():
    throttle = build(2, "a", "b")
    leases = [await throttle.acquire() for _ in range(4)]
    tasks = await waiting(throttle)
    assert (counters(throttle), throttle.in_flight_of("a"), throttle.in_flight_of("b")) == ((4, 1), 2, 2)
    leases[2].release()
    assert (await tasks[0]).name == leases[2].name
    assert counters(throttle) == (4, 0)


@in_loop
async def test_who_waits_longest_goes_first():
    throttle, order = build(1, "a"), []

    async def ask(number):
        lease = await throttle.acquire()
        order.append(number)
        await asyncio.sleep(0)
        lease.release()

    await asyncio.gather(*(ask(number) for number in range(20)))
    assert order == list(range(20))


@in_loop
async def test_a_new_request_does_not_overtake_one_that_was_just_let_in():
    throttle = build(1)
    first, second = await waiting(throttle, 2)
    throttle.open("a", address("a"))
    third = asyncio.create_task(throttle.acquire())
    for task in (first, second, third):
        (await task).release()
    assert counters(throttle) == (0, 0)


@in_loop
async def test_whoever_waits_before_nothing_says_so():
    arrivals = []
    throttle = build(1, on_arrival=lambda: arrivals.append(throttle.queued))
    tasks = await waiting(throttle, 3)
    assert arrivals == [1, 2, 3]
    throttle.open("a", address("a"))
    await settle()
    tasks += await waiting(throttle)
    assert (arrivals, counters(throttle)) == ([1, 2, 3], (1, 3))
    throttle.close("a")
    tasks += await waiting(throttle)
    assert arrivals == [1, 2, 3, 4]
    (await tasks[0]).release()
    await cancelled(*tasks[1:])


@in_loop
async def test_whoever_is_told_of_an_arrival_may_open_an_instance_at_once():
    throttle = build(1, on_arrival=lambda: throttle.open("a", address("a")))
    lease = await throttle.acquire()
    assert (lease.name, counters(throttle)) == ("a", (1, 0))


@in_loop
async def test_a_defect_in_who_is_told_leaves_nobody_in_the_queue():
    def fail():
        raise ZeroDivisionError

    throttle = build(1, on_arrival=fail)
    with pytest.raises(ZeroDivisionError):
        await throttle.acquire()
    assert counters(throttle) == (0, 0)


@pytest.mark.parametrize(
    ("concurrency", "max_scale", "instances", "length"),
    [
        (1, 10, 0, 10_000),
        (1, 10, 1, 100),
        (2, 3, 1, 60),
        (2, 3, 2, 60),
        (3, 0, 1, 300),
        (0, 10, 1, 10_000),
    ],
)
def test_the_length_of_the_queue(concurrency, max_scale, instances, length):
    limits = Limits(container_concurrency=concurrency, max_scale=max_scale)
    assert limits.queue_length(instances) == length


@in_loop
async def test_a_full_queue_takes_nobody_and_goes_on():
    throttle = build(1, "a", max_scale=1)
    lease = await throttle.acquire()
    tasks = await waiting(throttle, 10)
    with pytest.raises(QueueFull):
        await throttle.acquire()
    assert counters(throttle) == (1, 10)
    lease.release()
    for task in tasks:
        (await task).release()
    assert counters(throttle) == (0, 0)
    (await throttle.acquire()).release()


@in_loop
async def test_who_leaves_the_queue_leaves_no_trace():
    throttle = build(1, "a")
    lease = await throttle.acquire()
    first, second, third = await waiting(throttle, 3)
    await cancelled(second)
    assert counters(throttle) == (1, 2)
    lease.release()
    (await first).release()
    (await third).release()
    assert counters(throttle) == (0, 0)


@in_loop
async def test_who_leaves_when_he_is_handed_a_place_gives_it_back():
    throttle = build(1, "a")
    lease = await throttle.acquire()
    first, second = await waiting(throttle, 2)
    lease.release()
    # It has the place, and has not run yet.
    await cancelled(first)
    assert (await second).name == "a"
    assert counters(throttle) == (1, 0)


@in_loop
async def test_a_place_is_not_handed_to_one_who_has_just_left():
    throttle = build(1, "a")
    lease = await throttle.acquire()
    first, second = await waiting(throttle, 2)
    first.cancel()
    # It has left, and has not run yet.
    lease.release()
    (await second).release()
    await cancelled(first)
    assert counters(throttle) == (0, 0)


@in_loop
async def test_a_time_limit_while_waiting_leaves_no_trace():
    throttle = build(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await throttle.acquire()
    assert counters(throttle) == (0, 0)
    throttle.open("a", address("a"))
    assert counters(throttle) == (0, 0)


@in_loop
async def test_a_closed_instance_gets_nothing_new_and_keeps_what_it_has():
    throttle = build(1, "a", "b")
    first, second = await throttle.acquire(), await throttle.acquire()
    throttle.close(first.name)
    [task] = await waiting(throttle)
    first.release()
    await settle()
    assert (task.done(), throttle.in_flight_of(first.name), throttle.queued) == (False, 0, 1)
    second.release()
    assert (await task).name == second.name
    throttle.close("nobody")


@in_loop
async def test_a_name_that_is_opened_again_is_another_instance():
    throttle = build(1, "a")
    old = await throttle.acquire()
    throttle.close("a")
    assert throttle.in_flight_of("a") == 1
    throttle.open("a", address("z"))
    new = await throttle.acquire()
    assert (new.address, throttle.in_flight_of("a")) == (address("z"), 2)
    old.release()
    assert throttle.in_flight_of("a") == 1
    [task] = await waiting(throttle)
    assert not task.done()
    new.release()
    (await task).release()


@in_loop
async def test_an_instance_that_cannot_be_reached_is_left_alone_for_a_while(monkeypatch):
    monkeypatch.setattr(throttles, "AVOIDED_S", 0.05)
    throttle = build(1, "a", "b")
    lease = await throttle.acquire()
    assert lease.name == "a"
    assert lease.fail()
    assert (await throttle.acquire_again()).name == "b"
    # Everybody else waits, though one is free.
    [task] = await waiting(throttle)
    assert not task.done()
    assert (await task).name == "a"


@in_loop
async def test_the_only_instance_that_cannot_be_reached_leaves_no_choice(monkeypatch):
    monkeypatch.setattr(throttles, "AVOIDED_S", 0.0)
    throttle = build(1, "a")
    assert not (await throttle.acquire()).fail()
    assert counters(throttle) == (0, 0)
    lease = await throttle.acquire()
    throttle.close("a")
    assert not lease.fail()
    await settle()


@in_loop
async def test_who_tries_again_goes_before_those_who_wait():
    throttle = build(1, "a", "b")
    failed, other = await throttle.acquire(), await throttle.acquire()
    [task] = await waiting(throttle)
    throttle.close("a")
    assert failed.fail()
    again = asyncio.create_task(throttle.acquire_again())
    await settle()
    other.release()
    assert (await again).name == "b"
    assert not task.done()
    (await again).release()
    (await task).release()


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
