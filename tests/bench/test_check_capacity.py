"""The real batcher that the simulation is checked against."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from scripts.check_capacity import Batcher, Request, _measured
from vgg_deploy.backends.base import Array
from vgg_deploy.bench.batching import Policy

IMAGE = np.zeros((1, 1, 2, 2), np.float32)


class Slow:
    """A session that takes as long as it is told, and remembers its batches."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, batch: Array, /) -> Array:
        time.sleep(self.seconds)
        self.sizes.append(len(batch))
        return batch

    def bind(self, batch: Array, /) -> Callable[[], None]:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError


class Broken(Slow):
    """Fails at its second batch."""

    def __call__(self, batch: Array, /) -> Array:
        if self.sizes:
            raise RuntimeError("out of memory")
        return super().__call__(batch)


def test_a_runtime_that_fails_gives_no_latencies() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        _measured(Broken(0.001), IMAGE, Policy(max_batch=1), np.zeros(5))


def serve(session: Slow, policy: Policy, count: int) -> list[Request]:
    batcher = Batcher(session, policy)
    requests = [Request(time.perf_counter(), IMAGE) for _ in range(count)]
    for request in requests:
        batcher.put(request)
    batcher.close()
    return requests


def test_all_are_answered_in_batches_of_at_most_the_largest() -> None:
    session = Slow(0.02)
    requests = serve(session, Policy(max_batch=4), 11)
    assert all(request.done > request.due for request in requests)
    assert sum(session.sizes) == 11
    assert max(session.sizes) == 4


@pytest.mark.parametrize(("count", "waits"), [(1, True), (4, False)])
def test_a_batch_that_is_not_full_waits_for_company(count: int, waits: bool) -> None:
    session = Slow(0.001)
    batcher = Batcher(session, Policy(max_batch=4, max_delay_s=0.4))
    requests = [Request(time.perf_counter(), IMAGE) for _ in range(count)]
    for request in requests:
        batcher.put(request)
    end = time.monotonic() + 10
    while not all(request.done for request in requests) and time.monotonic() < end:
        time.sleep(0.005)
    batcher.close()
    took = requests[0].done - requests[0].due
    assert (took >= 0.4) == waits
    assert session.sizes == [count]
