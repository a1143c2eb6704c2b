"""What the tests of the throttle share: a clock of their own, and requests that wait."""

from __future__ import annotations

import asyncio
from functools import wraps

from local_runtime.activator.throttle import Limits, Throttle


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
