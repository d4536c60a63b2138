"""Plans: the limit holds, fewer replicas do not suffice, and what cannot be planned is said."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_deploy.bench.batching import ServiceTimes, simulate, traffic
from vgg_deploy.bench.capacity import MAX_LOAD, CapacityOptions, Plan, grown, plan
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.report.capacity_tables import growth_table


@pytest.fixture(scope="module")
def service() -> ServiceTimes:
    """A GPU-like device: 2 ms, and 0.5 ms for each image more."""
    random = np.random.default_rng(0)
    spread = random.lognormal(0, 0.05, 300)
    return ServiceTimes([(b, (0.0015 + 0.0005 * b) * spread) for b in (1, 4, 16)])


@pytest.fixture(scope="module")
def planned(service: ServiceTimes) -> Plan:
    options = CapacityOptions(qps=10_000, p99_ms=20, price_per_hour=2.0)
    return grown(service, options, plan(service, options))


def test_the_plan_keeps_the_limit_on_other_traffic(service: ServiceTimes, planned: Plan) -> None:
    load = planned.load
    assert load.p99_ms <= 20
    assert 0 < load.filled <= MAX_LOAD
    assert 0 < load.busy <= 1
    other = traffic(service, requests=100_000, seed=99)
    met = simulate(other, 10_000 / load.replicas, planned.policy)
    assert met.percentile(99) * 1e3 == pytest.approx(load.p99_ms, rel=0.05)


def test_a_replica_takes_no_more(service: ServiceTimes, planned: Plan) -> None:
    other = traffic(service, requests=100_000, seed=99)
    met = simulate(other, 1.06 * planned.most_per_replica, planned.policy)
    assert met.percentile(99) > 0.020


def test_batching_pays(service: ServiceTimes, planned: Plan) -> None:
    alone = plan(ServiceTimes([(1, np.full(100, 0.002))]), CapacityOptions(qps=10_000, p99_ms=20))
    assert planned.policy.max_batch == 16
    assert planned.load.replicas < 0.7 * alone.load.replicas


def test_cost_grows_with_load_and_with_tighter_limits(planned: Plan) -> None:
    replicas = [load.replicas for load in planned.by_load]
    assert replicas == sorted(replicas)
    assert replicas[-1] >= 1.7 * planned.load.replicas
    # A lone replica for little traffic is the dearest per image.
    per_million = [load.replica_hours_per_million for load in planned.by_load]
    assert per_million[0] == max(per_million)
    within = [load.replicas for load in planned.by_limit]
    assert within == sorted(within, reverse=True)
    price = planned.load.price_per_million
    assert price == pytest.approx(2.0 * planned.load.replicas / 10_000 / 3600 * 1e6)


def test_a_replica_is_loaded_by_the_mean_of_its_runs() -> None:
    """A tenth of the runs takes 2.5 times as long: the median does not see it, a queue does."""
    spread = np.array([0.010] * 90 + [0.025] * 10)
    found = plan(ServiceTimes([(1, spread)]), CapacityOptions(qps=1000, p99_ms=60_000))
    assert found.most_per_replica <= MAX_LOAD / spread.mean()
    assert found.load.filled == pytest.approx(found.load.busy, rel=0.05)


def test_a_limit_below_one_run_is_refused(service: ServiceTimes) -> None:
    with pytest.raises(RefusedInput, match=r"meets an idle replica has a p99 of 2\.\d+ ms"):
        plan(service, CapacityOptions(qps=10, p99_ms=1.5))


@pytest.mark.parametrize(("qps", "limit"), [(0, 20), (-1, 20), (10, 0), (float("inf"), 20)])
def test_loads_that_are_none(qps: float, limit: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        CapacityOptions(qps=qps, p99_ms=limit)


def test_a_limit_in_the_tail_of_the_service_times() -> None:
    """One run of a hundred took 10 ms: whether p99 is 1 ms or 10 is a matter of the draw."""
    service = ServiceTimes([(1, np.array([0.001] * 99 + [0.010]))])
    found, refused = [], []
    for seed in range(8):
        try:
            options = CapacityOptions(qps=100, p99_ms=5, seed=seed)
            found.append(grown(service, options, plan(service, options)))
        except RefusedInput as error:
            refused.append(error.cause)
    assert found
    assert refused
    assert all("no number of replicas" in cause for cause in refused)
    loads = [load for one in found for load in (one.load, *one.by_limit)]
    assert all(load.p99_ms <= load.limit_ms and load.replicas < 1e6 for load in loads)


@pytest.fixture(scope="module")
def slow_alone() -> ServiceTimes:
    """A batch of one takes 12 ms in one run of twenty, a batch of 16 always takes 3 ms."""
    return ServiceTimes([
        (1, np.array([0.001] * 95 + [0.012] * 5)),
        (16, np.full(100, 0.003)),
    ])  # fmt: skip


@pytest.mark.parametrize("qps", [1, 10, 100])
def test_a_load_that_breaks_the_limit_by_being_small_is_refused(
    slow_alone: ServiceTimes, qps: float
) -> None:
    with pytest.raises(RefusedInput, match="idle replica has a p99 of 12 ms"):
        plan(slow_alone, CapacityOptions(qps=qps, p99_ms=10))


def test_a_large_load_on_the_same_device_is_planned_and_smaller_ones_are_marked(
    slow_alone: ServiceTimes,
) -> None:
    options = CapacityOptions(qps=20_000, p99_ms=10)
    found = grown(slow_alone, options, plan(slow_alone, options))
    assert found.load.holds
    assert not found.by_load[0].holds
    statuses = [row.status for row in growth_table("More load", found.by_load).rows]
    assert statuses == ["plain" if load.p99_ms <= 10 else "warn" for load in found.by_load]


def test_another_policy_is_taken_where_the_one_of_the_highest_rate_fails() -> None:
    """Two together are slow in one run of ten, one alone and sixteen never are."""
    service = ServiceTimes([
        (1, np.array([0.001] * 97 + [0.008] * 3)),
        (2, np.array([0.001] * 90 + [0.030] * 10)),
        (16, np.full(100, 0.003)),
    ])  # fmt: skip
    found = plan(service, CapacityOptions(qps=200, p99_ms=12))
    assert found.policy.max_batch == 1  # of 16, one replica takes ten times as much
    assert found.load.holds
