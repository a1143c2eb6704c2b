"""Who gets to which instance and who waits: decisions in a loop, with a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from local_runtime.activator import throttle as throttles
from local_runtime.activator.throttle import Limits, QueueFull
from tests.unit.throttling import address, build, cancelled, counters, in_loop, settle, waiting


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
