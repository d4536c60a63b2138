"""Does a comparison say what is true? Counted on planted truths.

    python -m scripts.bench_comparison -o docs/results/comparison.json

*virtual*: sessions on a clock of their own with 5 % noise per run, a speed that wanders and an
outlier in a hundred; 200 comparisons of a session with its equal, 100 with one that takes 5 %
longer. *ort-cpu*: two ONNX Runtime sessions of the same small VGG, 20 comparisons of equals and 20
in which every run of the second is made 5 % longer by spinning. A comparison of equals that finds a
difference is a false alarm; 5 % of them are expected, and the exact binomial bound says how many a
sound procedure stays below in 99 of 100 repetitions.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy import environment
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Session
from vgg_deploy.bench.clock import HostStopwatch
from vgg_deploy.bench.contest import Contender, ContestOptions, contest, contest_in_rounds
from vgg_deploy.bench.paired import Ratio, ratios
from vgg_deploy.bench.virtual import Machine, contender, instruments
from vgg_deploy.bundle import Bundle
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.untrained import random_state, untrained_bundle
from vgg_deploy.results import Contest, Subject
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

SLOWDOWN = 1.05
_RUN_NS = 1e6


class Slowed:
    """A session whose bound runs take ``factor`` times as long: the rest is spun away."""

    def __init__(self, session: Session, factor: float) -> None:
        self._session, self._factor = session, factor

    def __call__(self, batch: Array, /) -> Array:
        """The session's own result."""
        return self._session(batch)

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """A run and the spinning after it."""
        run, clock, factor = self._session.bind(batch), time.perf_counter_ns, self._factor

        def slowed() -> None:
            begin = clock()
            run()
            end = begin + (clock() - begin) * factor
            while clock() < end:
                pass

        return slowed

    def sync(self) -> None:
        """The session's own."""
        self._session.sync()


def virtual(seed: int, factor: float, options: ContestOptions) -> Contest:
    """One comparison on a machine of its own."""
    machine = Machine(seed)
    pair = [contender(machine, "a", _RUN_NS), contender(machine, "b", _RUN_NS * factor)]
    return contest(pair, np.zeros((1, 1)), options, instruments(machine))


def real(bundle: Bundle, onnx: Artifact, seed: int, factor: float) -> Contest:
    """One comparison of two ONNX Runtime sessions."""
    backend = get_backend("ort-cpu")
    subject = Subject(
        artifact=str(onnx.path),
        sha256=onnx.sha256,
        size_bytes=onnx.size_bytes,
        format=onnx.format,
        precision=onnx.precision,
        backend="ort-cpu",
        device="cpu",
    )
    spec = bundle.card.spec
    batch = np.zeros((1, spec.channels, spec.size, spec.size), np.float32)

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[Sequence[Contender]]:
        with ExitStack() as stack:
            sessions: list[Session] = []
            for place in order:
                session = stack.enter_context(backend.open(onnx, bundle.root))
                slowed = factor != 1 and place == 1
                sessions.append(Slowed(session, factor) if slowed else session)
            yield [Contender(subject, session, HostStopwatch()) for session in sessions]

    return contest_in_rounds(opened, 2, batch, ContestOptions(seed=seed))


def counted(contests: Iterator[Contest], expected: str, share: float) -> dict[str, Any]:
    """How many comparisons said what is true."""
    found: list[Ratio] = []
    marked = 0
    for number, one in enumerate(contests, start=1):
        found += ratios(one)
        marked += bool(one.marks)
        print(f"\r{number}", end="", flush=True)
    right = sum(r.word == expected for r in found)
    result: dict[str, Any] = {"comparisons": len(found), "expected": expected, "said_so": right}
    result["ratios"] = [round(r.ratio, 5) for r in found]
    result["median_half_width"] = round(float(np.median([r.high / r.ratio - 1 for r in found])), 5)
    result["not_alone"] = marked
    if expected == "no difference shown":
        result["false_alarms"] = len(found) - right
        result["binomial_bound"] = binomial_bound(len(found), 0.05)
        result["holds"] = result["false_alarms"] <= result["binomial_bound"]
    else:
        result["holds"] = right >= share * len(found)
    print(f"\r{expected}: {right} of {len(found)}, holds: {result['holds']}")
    return result


def binomial_bound(n: int, p: float, level: float = 0.99) -> int:
    """The fewest k for which ``P(X <= k) >= level``, X binomial."""
    total = 0.0
    for k in range(n + 1):
        total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        if total >= level:
            return k
    return n


def small_bundle(root: Path) -> tuple[Bundle, Artifact]:
    """VGG-11 ÷ 4 at 32 px with random weights, as ONNX."""
    spec = ModelSpec.named("vgg11", width=0.25, size=32, channels=1, classes=10, fc_width=512)
    card = ModelCard(
        spec=spec,
        preprocessing=Preprocessing(size=32, channels=1, mean=(0.3,), std=(0.35,)),
        labels=tuple("abcdefghij"),
    )
    state = random_state(spec, he_normal=False)
    bundle = untrained_bundle(root, card, state, {"made_by": "bench_comparison"})
    bundle = export_bundle(bundle, ("onnx",))[0]
    onnx = bundle.find("onnx")
    assert onnx is not None
    return bundle, onnx


def main(words: Sequence[str] | None = None) -> None:
    """Count, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--equal", type=int, default=200, help="virtual comparisons of equals")
    parser.add_argument("--slower", type=int, default=100, help="virtual ones with a slowdown")
    parser.add_argument("--real", type=int, default=20, help="of each kind in ONNX Runtime")
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    args = parser.parse_args(words)
    options = ContestOptions(blocks=40, turn_seconds=0.02)
    equal, slower = "no difference shown", "slower"
    results = {
        "virtual_equal": counted((virtual(s, 1.0, options) for s in range(args.equal)), equal, 0.9),
        "virtual_slower": counted(
            (virtual(1000 + s, SLOWDOWN, options) for s in range(args.slower)), slower, 0.9
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle, onnx = small_bundle(Path(folder) / "bundle")
        for name, factor, expected in (
            ("ort_cpu_equal", 1.0, equal),
            ("ort_cpu_slower", SLOWDOWN, slower),
        ):
            results[name] = counted(
                (real(bundle, onnx, s, factor) for s in range(args.real)), expected, 0.9
            )
    document = {
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "slowdown": SLOWDOWN,
        "results": results,
    }
    if args.out:
        write_text(args.out, json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
