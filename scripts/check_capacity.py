"""Does the simulated queue of plan-capacity behave like a real one?

    vgg-deploy bench BUNDLE -b ort-cpu -f onnx --batch 1 --batch 2 --batch 4 --batch 8
    python scripts/check_capacity.py BUNDLE -o docs/results/capacity_check.json

A real batcher, one thread that takes what waits and runs the bundle's model, serves requests that
come at random moments. The simulation gets the latencies that bench stored and the same policy:
once with the very same moments (``same_traffic``), once with others (``other_traffic``), which is
what a plan knows. A latency counts from the moment a request was due. A row during which other
programs used more than 0.2 cores says so, and compares nothing.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vgg_deploy import environment, stored
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Session
from vgg_deploy.bench.batching import (
    Policy,
    Seconds,
    ServiceTimes,
    Simulated,
    replay,
    simulate,
    traffic,
)
from vgg_deploy.bench.load import between, cores_of_others, look
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.capacity import service_times
from vgg_deploy.results import BENCH_FILE, BenchReport, Timing

_WARM_UP = 0.1  # of the requests, as in the simulation
_BUSY_CORES = 0.2  # that others may use, as in bench


@dataclass
class Request:
    """One image on its way."""

    due: float  # seconds of time.perf_counter
    image: Array  # [1, C, S, S]
    done: float = 0.0


class Batcher:
    """Requests in, batches through a session, in a thread of its own."""

    def __init__(self, session: Session, policy: Policy) -> None:
        """Start to serve."""
        self._session, self._policy = session, policy
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.busy = 0.0  # seconds in the session
        self.batches: list[int] = []
        self.error: Exception | None = None  # that ended the service
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def put(self, request: Request) -> None:
        """Add a request."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._take():
            start = time.perf_counter()
            try:
                self._session(np.concatenate([request.image for request in batch]))
            except Exception as error:  # of any runtime; raised again where it is measured
                self.error = error
                return
            end = time.perf_counter()
            self.busy += end - start
            self.batches.append(len(batch))
            for request in batch:
                request.done = end

    def _take(self) -> list[Request]:
        """The next batch: a full one, or what has come when the oldest has waited enough."""
        most, waiting = self._policy.max_batch, self._waiting
        with self._changed:
            self._changed.wait_for(lambda: waiting or self._closed)
            if waiting:
                left = waiting[0].due + self._policy.max_delay_s - time.perf_counter()
                self._changed.wait_for(
                    lambda: len(waiting) >= most or self._closed, timeout=max(0.0, left)
                )
            return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def main() -> None:
    """Parse, run each policy at each load, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--backend", default="ort-cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="per policy and load")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    options = parser.parse_args()
    result = check(open_bundle(options.bundle), options.backend, options.loads, options.seconds)
    if options.output:
        write_text(options.output, json.dumps(result, indent=2) + "\n")
    for row in result["rows"]:
        print(json.dumps(row))


def check(
    bundle: Bundle, backend: str, loads: Sequence[float], seconds: float
) -> dict[str, list[dict[str, object]]]:
    """Measured beside predicted, for each policy and share of what a replica can do at most."""
    rows = _timings(bundle, backend)
    artifact = next(a for a in bundle.artifacts if a.sha256 == rows[0].subject.sha256)
    service = service_times(rows, artifact)
    largest = service.batches[-1]
    policies = [
        Policy(max_batch=1),
        Policy(max_batch=largest),
        Policy(max_batch=largest, max_delay_s=2 * service.median(1)),
    ]
    spec = bundle.card.spec
    image = np.random.default_rng(0).random((1, spec.channels, spec.size, spec.size), np.float32)
    found: list[dict[str, object]] = []
    with get_backend(backend).open(artifact, bundle.root) as session:
        for size in range(1, largest + 1):  # every size has met its first run
            session(np.repeat(image, size, axis=0))
        for policy in policies:
            for load in loads:
                rate = load * policy.max_batch / service.mean(policy.max_batch)
                found.append(_compared(session, image, service, policy, load, rate, seconds))
    about: list[dict[str, object]] = [
        {
            "subject": rows[0].subject.id,
            "service_ms": {str(b): service.median(b) * 1e3 for b in service.batches},
            "environment": asdict(environment.capture()),
        }
    ]
    return {"about": about, "rows": found}


def _timings(bundle: Bundle, backend: str) -> list[Timing]:
    report = stored.load(BenchReport, bundle.root / BENCH_FILE)
    rows = [r for r in report.rows if r.status == "measured" and r.subject.backend == backend]
    rows = [row for row in rows if row.subject.format == "onnx"]
    return [row for row in rows if row.subject == rows[0].subject]


def _compared(
    session: Session,
    image: Array,
    service: ServiceTimes,
    policy: Policy,
    load: float,
    rate: float,
    seconds: float,
) -> dict[str, object]:
    moments = _moments(rate, seconds)
    before = look()
    measured = _measured(session, image, policy, moments)
    others = cores_of_others(between(before, look()))
    drawn = service.draw(np.random.default_rng(0), 4096)
    same = replay(moments.tolist(), drawn, policy)
    other = simulate(traffic(service, requests=200_000, seed=1), rate, policy)
    kinds = {"measured": measured, "same_traffic": same, "other_traffic": other}
    alone = others is not None and others <= _BUSY_CORES
    ratios = {
        "p99_measured_over_same": measured.percentile(99) / same.percentile(99),
        "p99_measured_over_other": measured.percentile(99) / other.percentile(99),
    }
    return {
        "max_batch": policy.max_batch,
        "max_delay_ms": policy.max_delay_s * 1e3,
        "load": load,
        "rate": rate,
        "requests": len(moments),
        "others_cores": others,
        "alone": alone,
        **{name: _figures(met) for name, met in kinds.items()},
        **(ratios if alone else {}),
    }


def _moments(rate: float, seconds: float) -> Seconds:
    """Moments of a Poisson process, from 0 to ``seconds``."""
    gaps = np.random.default_rng(7).exponential(1 / rate, int(rate * seconds * 1.5) + 10)
    moments = np.cumsum(gaps)
    return moments[moments < seconds]


def _measured(session: Session, image: Array, policy: Policy, moments: Seconds) -> Simulated:
    batcher = Batcher(session, policy)
    start = time.perf_counter() + 0.05
    requests = []
    try:
        for moment in moments:
            request = Request(start + float(moment), image)
            time.sleep(max(0.0, request.due - time.perf_counter()))
            batcher.put(request)
            requests.append(request)
    finally:
        batcher.close()
    if batcher.error:
        raise batcher.error
    latencies = np.array([request.done - request.due for request in requests])
    return Simulated(
        latencies_s=latencies[int(len(latencies) * _WARM_UP) :],
        utilisation=batcher.busy / (requests[-1].done - start),
        mean_batch=float(np.mean(batcher.batches)),
    )


def _figures(met: Simulated) -> dict[str, float]:
    return {
        "p50_ms": met.percentile(50) * 1e3,
        "p99_ms": met.percentile(99) * 1e3,
        "utilisation": met.utilisation,
        "mean_batch": met.mean_batch,
    }


if __name__ == "__main__":
    main()
