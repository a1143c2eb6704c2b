"""Which of the open instances takes the next request: Knative's three ways."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

#: Up to this container concurrency the first free instance is taken; above it, one after the other.
_FEW = 3


class Loaded(Protocol):
    """An instance, as far as its load goes."""

    @property
    def in_flight(self) -> int:
        """How many requests it works on."""


T = TypeVar("T", bound=Loaded)
Choose = Callable[[Sequence[T]], T | None]


def better_of_two(instances: Sequence[T]) -> T | None:
    """Take the less loaded of two at random: there is no limit to what one takes."""
    if not instances:
        return None
    if len(instances) == 1:
        return instances[0]
    one, other = random.sample(instances, 2)
    return other if other.in_flight < one.in_flight else one


def first_free(instances: Sequence[T], limit: int) -> T | None:
    """Take the first that is free, so that the last ones become idle and can go."""
    return next((one for one in instances if one.in_flight < limit), None)


class RoundRobin:
    """Takes the free ones in turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 0

    def __call__(self, instances: Sequence[T]) -> T | None:
        """Take the next that is free, from the one after the last taken on."""
        count = len(instances)
        for step in range(count):
            place = (self._next + step) % count
            if instances[place].in_flight < self._limit:
                self._next = place + 1
                return instances[place]
        return None


def choose_balance(container_concurrency: int) -> Choose[T]:
    """Choose the way that goes with a container concurrency (0: no limit)."""
    if container_concurrency == 0:
        return better_of_two
    if container_concurrency <= _FEW:
        return lambda instances: first_free(instances, container_concurrency)
    return RoundRobin(container_concurrency)
