"""How many replicas a load needs so that its p99 holds: a search over simulated queues."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from vgg_deploy.bench.batching import (
    Policy,
    ServiceTimes,
    Traffic,
    simulate,
    traffic,
)
from vgg_deploy.environment import Environment
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.results import Subject

# Of the rate at which full batches would follow one another without a gap. Near 1 the waiting time
# has no bound, and nothing is left for what the simulation does not know: uneven routing, bursts,
# a neighbour. How busy a replica is would be the wrong measure: one that forms batches is busy with
# small ones long before it is full.
MAX_LOAD = 0.9
_SEARCH_REQUESTS = 20_000  # per simulation while searching: 180 lie beyond the p99
_FINAL_REQUESTS = 100_000
_STEPS = 12  # of halving the range of rates: to 1/4,096 of it
_STEP_DOWN = 0.01
_STEPS_DOWN = 10  # before the range of rates is halved again
_DELAYS = (0.0, 0.1, 0.25)  # of the p99 that is asked for, spent on waiting for company
_LOADS = (0.001, 0.01, 0.1, 1.0, 2.0)  # of the load that is asked for
_LIMITS = (0.5, 0.75, 1.0, 2.0, 4.0)  # of the p99 that is asked for
_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """The load, the limit, and what a replica costs."""

    qps: float  # images per second, all replicas together
    p99_ms: float
    price_per_hour: float | None = None  # of one replica, any currency
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("qps", self.qps), ("p99-ms", self.p99_ms)):
            if not 0 < value < math.inf:
                raise UsageError(
                    f"--{name} {value:g} is not above 0", "use a finite number above 0"
                )
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0", "use 0 or more")
        if self.price_per_hour is not None and not 0 <= self.price_per_hour < math.inf:
            raise UsageError(f"--price {self.price_per_hour:g} is below 0", "use 0 or more")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a number of replicas does under a load."""

    qps: float
    limit_ms: float  # the p99 they were counted for
    replicas: int
    p50_ms: float
    p99_ms: float
    busy: float  # share of the time that a replica computes
    filled: float  # share of the rate of a replica that runs full batches only
    mean_batch: float
    replica_hours_per_million: float  # images
    price_per_million: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The fewest replicas of one deployed file, and how that changes with the load."""

    policy: Policy
    most_per_replica: float  # images per second that one replica takes within the limit
    load: Load
    by_load: tuple[Load, ...]  # the same limit at other loads
    by_limit: tuple[Load, ...]  # the same load within other limits, where they can be kept


@dataclass(frozen=True, kw_only=True)
class CandidatePlan:
    """One deployed file on one backend, and what it needs."""

    subject: Subject
    batches: tuple[int, ...]  # that were measured
    clock: str  # which latencies were used
    marks: tuple[str, ...]  # what bench said of them
    plan: Plan | None
    reason: str = ""  # why there is no plan


@dataclass(frozen=True, kw_only=True)
class CapacityReport:
    """Plans for every measured file, fewest replicas first."""

    options: CapacityOptions
    environment: Environment  # a replica is this machine
    measured_at: str
    candidates: tuple[CandidatePlan, ...]


class _Rate(NamedTuple):
    """Images per second that one replica takes at most, and how."""

    most: float
    policy: Policy


def plan(service: ServiceTimes, options: CapacityOptions) -> Plan:
    """The policy that needs the fewest replicas, and what it does.

    Raises ``RefusedInput`` when not even a lone request is answered within the limit.
    """
    limit = options.p99_ms / 1e3
    search = traffic(service, requests=_SEARCH_REQUESTS, seed=options.seed)
    rate = _best(search, service, limit, service.batches)
    if rate.most <= 0:
        raise _out_of_reach(search, service, options)
    final = traffic(service, requests=_FINAL_REQUESTS, seed=options.seed + 1)
    rate = _confirmed(final, service, rate, limit)
    if rate.most <= 0:
        raise _out_of_reach(final, service, options)
    return Plan(
        policy=rate.policy,
        most_per_replica=rate.most,
        load=_load(options, rate, final, service),
        by_load=tuple(
            _load(replace(options, qps=options.qps * share), rate, final, service)
            for share in _LOADS
        ),
        by_limit=_by_limit(search, final, service, options, rate.policy.max_batch),
    )


def _by_limit(
    search: Traffic, final: Traffic, service: ServiceTimes, options: CapacityOptions, batch: int
) -> tuple[Load, ...]:
    """Replicas within tighter and wider limits; the largest batch stays, the waiting is chosen."""
    loads = []
    for share in _LIMITS:
        given = replace(options, p99_ms=options.p99_ms * share)
        limit = given.p99_ms / 1e3
        rate = _best(search, service, limit, [batch])
        if rate.most > 0:
            rate = _confirmed(final, service, rate, limit)
        if rate.most > 0:
            loads.append(_load(given, rate, final, service))
    return tuple(loads)


def _best(search: Traffic, service: ServiceTimes, limit: float, batches: Iterable[int]) -> _Rate:
    """The policy that takes most; of equals the first, which is the simplest."""
    policies = _policies(batches, limit)
    rates = [_Rate(_most(search, service, policy, limit), policy) for policy in policies]
    return max(rates, key=lambda rate: rate.most)


def _policies(batches: Iterable[int], limit: float) -> Iterable[Policy]:
    for batch in batches:
        for delay in _DELAYS if batch > 1 else (0.0,):
            yield Policy(max_batch=batch, max_delay_s=delay * limit)


def _most(search: Traffic, service: ServiceTimes, policy: Policy, limit: float) -> float:
    """Highest rate one replica takes within the limit; 0 when there is none."""
    low, high = 0.0, MAX_LOAD * _peak(service, policy)
    if simulate(search, high, policy).percentile(99) <= limit:
        return high
    for _ in range(_STEPS):
        rate = (low + high) / 2
        if simulate(search, rate, policy).percentile(99) <= limit:
            low = rate
        else:
            high = rate
    return low


def _peak(service: ServiceTimes, policy: Policy) -> float:
    """Images per second when full batches follow one another."""
    return policy.max_batch / service.mean(policy.max_batch)


def _confirmed(final: Traffic, service: ServiceTimes, rate: _Rate, limit: float) -> _Rate:
    """``rate``, lowered until five times as many requests, drawn anew, keep the limit too.

    0 where no rate does: a limit in the tail of the service times can hold for some draws only.
    """
    for _ in range(_STEPS_DOWN):
        if simulate(final, rate.most, rate.policy).percentile(99) <= limit:
            return rate
        rate = rate._replace(most=rate.most * (1 - _STEP_DOWN))
    return rate._replace(most=_most(final, service, rate.policy, limit))


def _out_of_reach(search: Traffic, service: ServiceTimes, options: CapacityOptions) -> RefusedInput:
    lone = simulate(search, 1e-3 / service.median(1), Policy(max_batch=1))
    return RefusedInput(
        f"no number of replicas gives a p99 of {options.p99_ms:g} ms: a request that meets "
        f"an idle replica has a p99 of {lone.percentile(99) * 1e3:.3g} ms",
        "allow a longer p99, or take a faster backend, precision or machine",
    )


def _load(options: CapacityOptions, rate: _Rate, traffic: Traffic, service: ServiceTimes) -> Load:
    """What the fewest replicas do, when one takes at most ``rate.most`` images per second."""
    replicas = math.ceil(options.qps / rate.most)
    each = options.qps / replicas
    met = simulate(traffic, each, rate.policy)
    hours = replicas / (options.qps * _PER_HOUR) * 1e6
    price = options.price_per_hour
    return Load(
        qps=options.qps,
        limit_ms=options.p99_ms,
        replicas=replicas,
        p50_ms=met.percentile(50) * 1e3,
        p99_ms=met.percentile(99) * 1e3,
        busy=met.utilisation,
        filled=each / _peak(service, rate.policy),
        mean_batch=met.mean_batch,
        replica_hours_per_million=hours,
        price_per_million=None if price is None else price * hours,
    )
