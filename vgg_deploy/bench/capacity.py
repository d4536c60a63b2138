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

    @property
    def holds(self) -> bool:
        """Whether the limit is kept."""
        return self.p99_ms <= self.limit_ms


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The fewest replicas of one deployed file, and how that changes with the load."""

    policy: Policy
    most_per_replica: float  # images per second that one replica takes within the limit
    load: Load
    # Of the first plan of a report only:
    by_load: tuple[Load, ...] = ()  # the same limit and policy at other loads, kept or not
    by_limit: tuple[Load, ...] = ()  # the same load within other limits, where they can be kept


@dataclass(frozen=True, kw_only=True)
class CandidatePlan:
    """One deployed file on one backend, and what it needs."""

    subject: Subject
    batches: tuple[int, ...]  # that were measured
    clock: str  # which latencies were used
    marks: tuple[str, ...]  # what bench said of them
    plan: Plan | None
    reason: str = ""  # why there is no plan
    idle_p99_ms: float | None = None  # of a request that meets an idle replica, without a plan


@dataclass(frozen=True, kw_only=True)
class CapacityReport:
    """Plans for every measured file, fewest replicas first."""

    options: CapacityOptions
    environment: Environment  # a replica is this machine
    measured_at: str
    candidates: tuple[CandidatePlan, ...]


class OutOfReach(RefusedInput):
    """No number of replicas keeps the limit."""

    def __init__(self, limit_ms: float, idle_ms: float) -> None:
        """Both in milliseconds: the p99 asked for, and that of a request to an idle replica."""
        super().__init__(
            f"no number of replicas gives a p99 of {limit_ms:g} ms: a request that meets "
            f"an idle replica has a p99 of {idle_ms:.3g} ms",
            "allow a longer p99, or take a faster backend, precision or machine",
        )
        self.idle_ms = idle_ms


class _Rate(NamedTuple):
    """Images per second that one replica takes at most, and how."""

    most: float
    policy: Policy


class _Draws(NamedTuple):
    """Traffic to search on, and more of it, drawn anew, that has to keep the limit, too."""

    search: Traffic
    final: Traffic


def plan(service: ServiceTimes, options: CapacityOptions) -> Plan:
    """The policy that needs the fewest replicas, and what it does; other loads are left out.

    Raises ``OutOfReach`` when no policy keeps the limit at this load.
    """
    draws = _draws(service, options)
    found = _fewest(draws, service, options, service.batches)
    if found is None:
        raise OutOfReach(options.p99_ms, max(_idle_p99_ms(drawn, service) for drawn in draws))
    rate, load = found
    return Plan(policy=rate.policy, most_per_replica=rate.most, load=load)


def grown(service: ServiceTimes, options: CapacityOptions, found: Plan) -> Plan:
    """``found`` with what it does at other loads and needs within other limits."""
    draws = _draws(service, options)
    rate = _Rate(found.most_per_replica, found.policy)
    return replace(
        found,
        by_load=tuple(
            _load(replace(options, qps=options.qps * share), rate, draws.final, service)
            for share in _LOADS
        ),
        by_limit=_by_limit(draws, service, options, found.policy.max_batch),
    )


def _draws(service: ServiceTimes, options: CapacityOptions) -> _Draws:
    return _Draws(
        traffic(service, requests=_SEARCH_REQUESTS, seed=options.seed),
        traffic(service, requests=_FINAL_REQUESTS, seed=options.seed + 1),
    )


def _by_limit(
    draws: _Draws, service: ServiceTimes, options: CapacityOptions, batch: int
) -> tuple[Load, ...]:
    """Replicas within tighter and wider limits; the largest batch stays, the waiting is chosen."""
    limits = [replace(options, p99_ms=options.p99_ms * share) for share in _LIMITS]
    found = (_fewest(draws, service, given, [batch]) for given in limits)
    return tuple(one[1] for one in found if one)


def _fewest(
    draws: _Draws, service: ServiceTimes, options: CapacityOptions, batches: Iterable[int]
) -> tuple[_Rate, Load] | None:
    """The policy that needs the fewest replicas; of equals the first, which is the simplest.

    Policies that take most are tried first, and no more once those left cannot need fewer.
    """
    limit = options.p99_ms / 1e3
    policies = _policies(batches, limit)
    rates = [_Rate(_most(draws.search, service, policy, limit), policy) for policy in policies]
    best: tuple[_Rate, Load] | None = None
    for rate in sorted(rates, key=lambda rate: -rate.most):
        if rate.most <= 0 or (best and best[1].replicas <= math.ceil(options.qps / rate.most)):
            break
        found = _kept(draws, service, rate, options)
        if found and (best is None or found[1].replicas < best[1].replicas):
            best = found
    return best


def _kept(
    draws: _Draws, service: ServiceTimes, rate: _Rate, options: CapacityOptions
) -> tuple[_Rate, Load] | None:
    """Replicas that keep the limit at the load they share, or None.

    The p99 need not fall with the rate: where a batch of one has a longer tail than a large one,
    a replica that keeps the limit when it is loaded breaks it when it has little to do.
    """
    limit = options.p99_ms / 1e3
    rate = _confirmed(draws.final, service, rate, limit)
    for _ in range(_STEPS_DOWN):
        if rate.most <= 0:
            return None
        load = _load(options, rate, draws.final, service)
        if load.holds:
            return rate, load
        below = options.qps / load.replicas * (1 - _STEP_DOWN)
        rate = rate._replace(most=_most(draws.search, service, rate.policy, limit, below))
    return None


def _policies(batches: Iterable[int], limit: float) -> Iterable[Policy]:
    for batch in batches:
        for delay in _DELAYS if batch > 1 else (0.0,):
            yield Policy(max_batch=batch, max_delay_s=delay * limit)


def _most(
    search: Traffic, service: ServiceTimes, policy: Policy, limit: float, below: float = math.inf
) -> float:
    """Highest rate one replica takes within the limit; 0 when there is none."""
    low, high = 0.0, min(below, MAX_LOAD * _peak(service, policy))
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


def _idle_p99_ms(draws: Traffic, service: ServiceTimes) -> float:
    """The p99 of requests that come so rarely that each finds the replica idle."""
    lone = simulate(draws, 1e-3 / service.median(1), Policy(max_batch=1))
    return lone.percentile(99) * 1e3


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
