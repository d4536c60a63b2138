"""The simulated queue against hand-made schedules and against queueing theory."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_deploy.bench.batching import Policy, ServiceTimes, replay, simulate, traffic


def exactly(**seconds: float) -> ServiceTimes:
    """Service times without any spread: ``exactly(b1=0.01, b4=0.02)``."""
    pairs = [(int(name[1:]), np.full(10, value)) for name, value in seconds.items()]
    return ServiceTimes(pairs)


def latencies(arrivals: list[float], service: ServiceTimes, policy: Policy) -> list[float]:
    drawn = service.draw(np.random.default_rng(0), 4)
    met = replay(arrivals, drawn, policy)
    return [round(float(value), 9) for value in met.latencies_s]


def test_one_at_a_time() -> None:
    service = exactly(b1=1.0)
    assert latencies([0, 0.5, 3], service, Policy(max_batch=1)) == [1.0, 1.5, 1.0]


def test_what_waits_goes_together() -> None:
    service = exactly(b1=1.0, b4=2.5)  # a batch of two takes 1.5
    # The first goes alone; the two that came meanwhile start at 1; the last finds it idle.
    found = latencies([0, 0.2, 0.4, 5], service, Policy(max_batch=4))
    assert found == [1.0, 2.3, 2.1, 1.0]


def test_a_batch_is_never_larger_than_allowed() -> None:
    service = exactly(b1=1.0, b2=1.0)
    found = latencies([0, 0.1, 0.2, 0.3], service, Policy(max_batch=2))
    assert found == [1.0, 1.9, 1.8, 2.7]


def test_waiting_for_company_ends_at_the_delay() -> None:
    service = exactly(b1=1.0, b4=1.0)
    found = latencies([0, 0.3, 2], service, Policy(max_batch=4, max_delay_s=0.5))
    assert found == [1.5, 1.2, 1.5]


def test_a_full_batch_starts_at_once() -> None:
    service = exactly(b1=1.0, b2=1.0)
    found = latencies([0, 0.1], service, Policy(max_batch=2, max_delay_s=0.5))
    assert found == [1.1, 1.0]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_that_of_theory(load: float) -> None:
    """M/D/1: the mean wait is load / (2 (1 - load)) service times (Pollaczek and Khinchine)."""
    requests = traffic(exactly(b1=0.01), requests=200_000, seed=1)
    met = simulate(requests, load / 0.01, Policy(max_batch=1))
    wait = float(met.latencies_s.mean()) - 0.01
    assert wait == pytest.approx(0.01 * load / (2 * (1 - load)), rel=0.04)
    assert met.utilisation == pytest.approx(load, rel=0.01)


def test_spread_of_the_service_lengthens_the_wait() -> None:
    """M/G/1: the wait grows by the squared coefficient of variation."""
    random = np.random.default_rng(0)
    samples = random.gamma(4.0, 0.01 / 4, 50_000)  # CV 1/2
    met = simulate(
        traffic(ServiceTimes([(1, samples)]), requests=200_000, seed=2), 70, Policy(max_batch=1)
    )
    mean = float(samples.mean())
    load = 70 * mean
    want = mean * load / (2 * (1 - load)) * (1 + 0.25)
    assert float(met.latencies_s.mean()) - mean == pytest.approx(want, rel=0.06)


def test_at_saturation_all_batches_are_full() -> None:
    requests = traffic(exactly(b1=0.01, b8=0.02), requests=20_000, seed=0)
    met = simulate(requests, 2_000, Policy(max_batch=8))
    assert met.mean_batch == pytest.approx(8, rel=0.01)
    assert met.utilisation == pytest.approx(1, rel=0.01)


def test_equal_seeds_give_equal_latencies() -> None:
    service = ServiceTimes([(1, np.array([0.01, 0.02])), (4, np.array([0.03, 0.05]))])
    runs = [
        simulate(traffic(service, requests=500, seed=s), 60, Policy(max_batch=4)) for s in (3, 3, 4)
    ]
    assert np.array_equal(runs[0].latencies_s, runs[1].latencies_s)
    assert not np.array_equal(runs[0].latencies_s, runs[2].latencies_s)


def test_sizes_between_the_measured_ones() -> None:
    service = exactly(b1=0.01, b5=0.05)
    assert service.median(3) == pytest.approx(0.03)
    assert len(service.draw(np.random.default_rng(0), 1)) == 6
    with pytest.raises(ValueError, match="no latencies"):
        ServiceTimes([])


def test_a_size_that_is_not_taken_takes_the_time_of_the_next_that_is() -> None:
    """An engine of two profiles, 1 and 8 to 16."""
    pairs = [(1, np.full(10, 0.01)), (16, np.full(10, 0.16))]
    service = ServiceTimes(pairs, lambda size: size == 1 or size >= 8)
    assert [service.median(size) for size in (1, 2, 7, 8, 9, 16)] == pytest.approx(
        [0.01, 0.08, 0.08, 0.08, 0.09, 0.16]
    )
    assert service.draw(np.random.default_rng(0), 1)[2:8, 0] == pytest.approx(0.08)
    assert service.mean(3) == pytest.approx(0.08)
    assert service.padded == {8: (2, 7)}
    assert ServiceTimes(pairs).padded == {}


def test_drawn_times_take_eight_bytes_each() -> None:
    service = ServiceTimes([(1, np.full(10, 1.0)), (256, np.full(10, 2.0))])
    assert service.draw(np.random.default_rng(0), 100).nbytes == 8 * 257 * 100
