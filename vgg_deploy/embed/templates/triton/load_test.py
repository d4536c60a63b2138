"""How long answers take under load: python load_test.py --rate 50 --seconds 10.

Requests start at random moments (a Poisson process with a fixed seed), whether or not earlier
ones were answered, and a latency counts from the moment a request was due: a slow server cannot
make its own test easier. The test ends by itself.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from client import CHANNELS, Client

MOST_REQUESTS = 100_000
MOST_SECONDS = 600


@dataclass(frozen=True)
class Report:
    """What a load test found; latencies in milliseconds, infinite where no answer came."""

    sent: int
    failed: int
    seconds: float
    p50: float
    p90: float
    p99: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.sent} requests in {self.seconds:.1f} s, {self.failed} failed; "
            f"p50 {self.p50:.1f} ms, p90 {self.p90:.1f} ms, p99 {self.p99:.1f} ms"
        )


def load_test(
    url: str, *, rate: float, seconds: float, side: int = 224, threads: int = 64, seed: int = 0
) -> Report:
    """Send ``rate`` requests a second for ``seconds``, each one square image of ``side`` pixels.

    Raises ``ValueError`` for nothing to send and for too much.
    """
    if not (seconds > 0 and rate > 0 and side > 0):
        raise ValueError("give a rate, seconds and a side above 0")
    if not (seconds <= MOST_SECONDS and rate * seconds <= MOST_REQUESTS):
        raise ValueError(f"at most {MOST_SECONDS} s and {MOST_REQUESTS:,} requests")
    image = np.random.default_rng(seed).integers(0, 256, (side, side, CHANNELS), np.uint8)
    own = threading.local()  # a connection for each thread

    def ask(due: float) -> float | None:
        try:
            if not hasattr(own, "client"):
                own.client = Client(url)
            own.client.classify(image)
        except Exception:  # refused, timed out, broken: it counts as failed
            return None
        return time.perf_counter() - due

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        for offset in arrivals(rate, seconds, seed):
            due = start + offset
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(pool.submit(ask, due))
        answers = [future.result() for future in waiting]
    took = np.array([math.inf if answer is None else answer * 1e3 for answer in answers])
    nothing = (math.nan,) * 3  # no request was due in that time
    p50, p90, p99 = np.percentile(took, (50, 90, 99), method="higher") if took.size else nothing
    return Report(
        sent=len(answers),
        failed=answers.count(None),
        seconds=time.perf_counter() - start,
        p50=float(p50),
        p90=float(p90),
        p99=float(p99),
    )


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments of a Poisson process, in seconds from its start."""
    random = np.random.default_rng(seed)
    moment = random.exponential(1 / rate)
    while moment < seconds:
        yield moment
        moment += random.exponential(1 / rate)


def main() -> int:
    """Parse, run, print; 1 when a request failed or none was sent."""
    parser = argparse.ArgumentParser(description="Load test of a KServe v2 server.")
    parser.add_argument("--url", default="127.0.0.1:8000", help="host and port")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=224, help="pixels of the square image")
    given = parser.parse_args()
    try:
        report = load_test(given.url, rate=given.rate, seconds=given.seconds, side=given.side)
    except ValueError as error:
        parser.error(str(error))
    print(report)
    return int(report.failed > 0 or report.sent == 0)


if __name__ == "__main__":
    sys.exit(main())
