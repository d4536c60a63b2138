"""Which commands check a machine, from what doctor says of each Python: the plan, nothing run.

What tells most comes first (``machine_order``); TensorRT's engines are built one precision at a
time, right before they run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from vgg_deploy.backends import BACKENDS
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.pipeline.machine_found import (
    TRT_BACKENDS,
    doctor_in,
    has_rtx_builder,
    judge_in,
    usable_backends,
    versions_of,
)
from vgg_deploy.pipeline.machine_order import Cell, is_slow, turns
from vgg_deploy.trt.flavour import row_for

Kind = Literal[
    "doctor", "probe", "limits", "make", "export", "build", "verify", "golden", "bench"
]  # fmt: skip
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
NETWORKS = ("tiny", "vgg11", "vgg16")  # small first
RTX_WITHOUT_GPU = "8.9"  # TensorRT-RTX builds for a GPU that is not here
# Precisions of ONNX files that a backend opens, or builds engines from.
OPENS: Mapping[str, tuple[str, ...]] = {
    "ort-cpu": ("fp32", "fp16", "int8", "fp8"),
    "openvino": PRECISIONS,
    "ort-cuda": ("fp32", "fp16"),
    "ort-trt": ("fp32", "fp16", "bf16", "int8"),
    "trt": PRECISIONS,
    "trt-rtx": PRECISIONS,
}
_EXPORTED = {"torchscript": "torchscript", "torchscript-cuda": "torchscript", "aoti": "aoti"}
_FIRST_BATCHES = (1, 64)  # latency and throughput; the sizes between tell less
_FEW_IMAGES = "16"  # VGG-16's activations of one take a quarter of a second to count
_STEP_SECONDS = 120.0
_BUILD_SECONDS = 360.0  # a build that is ended leaves nothing, not even its timing cache


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is checked, where, and for how long."""

    device: Literal["cuda", "cpu"]
    networks: tuple[str, ...] = ("vgg11", "vgg16")
    precisions: tuple[str, ...] = PRECISIONS
    batches: tuple[int, ...] = (1, 64, 8, 256)  # in this order
    backends: tuple[str, ...] = ()  # empty: all that are usable
    seconds: float = 3.0  # of measuring per cell
    images: int = 16  # verified with
    step_seconds: float = _STEP_SECONDS  # after which a step is ended
    build_seconds: float = _BUILD_SECONDS  # the same for one that builds or compiles
    work: str = "artifacts/gpu_check"
    random_weights: bool = False  # instead of trained ones, at once
    optimization_level: int | None = None  # of engines; None: TensorRT's own
    python: str = sys.executable
    trt_python: str = sys.executable

    @property
    def pythons(self) -> tuple[str, ...]:
        """Each interpreter once."""
        return tuple(dict.fromkeys((self.python, self.trt_python)))


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command."""

    kind: Kind
    network: str
    python: str
    words: tuple[str, ...]  # of vgg-deploy (doctor, export, build), else of machine_child
    backend: str = field(default="", compare=False)  # the words say it; older builds lack it
    precision: str = ""  # of the files; empty: all that the backend opens

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """What verify, golden and bench of one backend have in common, and its engine's build."""
        return (self.network, self.python, self.backend, self.precision)

    def limit(self, options: Options) -> float:
        """Seconds after which it is ended."""
        slow = self.kind == "build" or is_slow(self.backend)
        return options.build_seconds if slow else options.step_seconds


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step ended with; ``answer`` is the command's own JSON."""

    step: Step
    code: int  # exit code; -1: ended after its time
    seconds: float
    said: str  # last line on stderr
    answer: Any = None  # of a bench that was ended: what it had measured by then
    weights: str = ""  # sha256 of the network's checkpoint
    versions: Mapping[str, str] = field(default_factory=dict)  # of that Python's packages


def in_order(batches: Sequence[int]) -> tuple[int, ...]:
    """Batch sizes, each once, those that tell most first."""
    return tuple(sorted(set(batches), key=lambda size: (size not in _FIRST_BATCHES, size)))


def planned(options: Options, found: Sequence[Done]) -> Iterator[Step]:
    """What can run in each Python, then all commands; ``found`` grows while these are run."""
    for python in options.pythons:
        yield Step(kind="doctor", network="", python=python, words=("doctor", "--json"))
        if not doctor_in(python, found):  # a library ended the process: which one?
            for name in BACKENDS:
                if not options.backends or name in options.backends:
                    yield Step(kind="probe", network="", python=python, words=(name,))
    yield from steps(options, found)


def steps(options: Options, found: Sequence[Done]) -> Iterator[Step]:
    """All commands, from what doctor said of each Python."""
    usable = usable_backends(options, found)
    networks = sorted(options.networks, key=NETWORKS.index)
    exported: set[tuple[str, str]] = set()
    made: dict[str, bool] = {}
    limits = False

    def precisions(python: str, backend: str) -> Sequence[str]:
        return _engine_precisions(options, python, backend, found)

    # without any backend the networks alone are made
    planned = chain(turns(usable, networks, precisions), ((n, list[Cell]()) for n in networks))
    for network, cells in planned:
        if network not in made:
            yield from _makes(options, network, found)
            made[network] = _has_weights(network, found)
        if not made[network]:
            continue
        yield from _exports(options, network, cells, exported)
        for cell in cells:
            yield from _cell(options, network, cell, found)
        if cells and not limits:
            yield Step(kind="limits", network="", python=options.python,
                       words=(options.device,))  # fmt: skip
            limits = True
    if options.device == "cpu" and has_rtx_builder(options.trt_python, found):
        for network in filter(made.get, networks):
            rtx = [(options.trt_python, "trt-rtx", p) for p in options.precisions]
            yield from _exports(options, network, rtx, exported)
            yield from _rtx_builds(options, network)


def bundle_of(options: Options, network: str) -> str:
    """The folder of a network's bundle."""
    return str(Path(options.work, network))


def _makes(options: Options, network: str, found: Sequence[Done]) -> Iterator[Step]:
    """Trained weights; random ones where they are asked for, or training failed or took long."""
    words = (network, bundle_of(options, network), "--device", options.device)
    step = Step(kind="make", network=network, python=options.python, words=words)
    random = replace(step, words=(*words, "--random"))
    if options.random_weights:
        yield random
        return
    yield step
    if any(done.step == step and done.code for done in found):
        yield random


def _has_weights(network: str, found: Sequence[Done]) -> bool:
    codes = [d.code for d in found if d.step.kind == "make" and d.step.network == network]
    return not codes or 0 in codes


def _exports(
    options: Options, network: str, cells: Sequence[Cell], exported: set[tuple[str, str]]
) -> Iterator[Step]:
    """The files that these cells open, and no other; each once."""
    bundle, backends = bundle_of(options, network), [name for _, name, _ in cells]
    opened = {p for _, name, one in cells for p in ((one,) if one else OPENS.get(name, ()))}
    if opened:
        opened.add("fp32")  # all others are made from it
    new = [p for p in PRECISIONS if p in opened and (network, p) not in exported]
    new = [p for p in new if p in options.precisions or p == "fp32"]
    if new:
        exported.update((network, p) for p in new)
        precisions = [word for p in new for word in ("-p", p)]
        yield Step(kind="export", network=network, python=options.python,
                   words=("export", bundle, *precisions, *_calibration(options, new), "--json"),
                   )  # fmt: skip
    for format in dict.fromkeys(_EXPORTED[name] for name in backends if name in _EXPORTED):
        if (network, format) not in exported:
            exported.add((network, format))
            yield Step(kind="export", network=network, python=options.python,
                       words=("export", bundle, "-f", format, "--json"),
                       backend=format if is_slow(format) else "")  # fmt: skip


def _calibration(options: Options, precisions: Sequence[str]) -> tuple[str, ...]:
    """Random weights have no accuracy to keep: a minute of a lent machine is worth more."""
    if not set(precisions) & {"fp16", "int8", "fp8"}:
        return ()
    few = ("--calibration-images", _FEW_IMAGES) if options.random_weights else ()
    return ("--calibration-data", "sample", *few)


def _cell(options: Options, network: str, cell: Cell, found: Sequence[Done]) -> Iterator[Step]:
    """Verify a backend, then time it; an engine right after it was built."""
    python, backend, precision = cell
    if backend in TRT_BACKENDS:
        yield _build(options, network, python, backend, precision)
    yield from _judged_and_timed(options, network, python, backend, precision, found)


def _engine_precisions(
    options: Options, python: str, backend: str, found: Sequence[Done]
) -> tuple[str, ...]:
    """Of the engines that are built for a backend; no precision for one that builds none."""
    if backend not in TRT_BACKENDS:
        return ("",)
    if backend != "trt":
        return options.precisions
    wanted = (*options.precisions, *(("tf32",) if "fp32" in options.precisions else ()))
    versions = versions_of(python, found)
    version = versions.get("tensorrt") or versions.get("tensorrt-cu13-bindings", "")
    try:
        known = row_for("tensorrt", version).precisions
    except BackendNotAvailable:  # not told, or unknown: its own refusals tell
        return wanted
    return tuple(precision for precision in wanted if precision in known)


def _judged_and_timed(
    options: Options, network: str, python: str, backend: str, precision: str, found: Sequence[Done]
) -> Iterator[Step]:
    batches = [word for size in options.batches for word in ("--batch", str(size))]
    which = (backend, bundle_of(options, network), *batches)
    which = (*which, "--precision", precision) if precision else which
    kind = judge_in(python, found)
    judge = (*which, "--images", str(options.images)) if kind == "verify" else which
    timing = (*which, "--seconds", f"{options.seconds:g}")
    yield Step(kind=kind, network=network, python=python, words=judge,
               backend=backend, precision=precision)  # fmt: skip
    yield Step(kind="bench", network=network, python=python, words=timing,
               backend=backend, precision=precision)  # fmt: skip


def _build(
    options: Options, network: str, python: str, backend: str, precision: str, *more: str
) -> Step:
    # A profile per size, so that each is tuned; golden vectors are run one by one, too.
    sizes = sorted({1, *options.batches})
    batches = [word for n in sizes for word in ("--batch", f"{n}:{n}:{n}")]
    flavour = ("--flavour", TRT_BACKENDS[backend])
    level = options.optimization_level
    more = more if level is None else ("--optimization-level", str(level), *more)
    words = ("build", bundle_of(options, network), *flavour, "--precision", precision)
    return Step(kind="build", network=network, python=python, backend=backend,
                words=(*words, *batches, *more, "--json"), precision=precision)  # fmt: skip


def _rtx_builds(options: Options, network: str) -> Iterator[Step]:
    """TensorRT-RTX needs no GPU to build for one."""
    capability = ("--compute-capability", RTX_WITHOUT_GPU)
    for precision in options.precisions:
        yield _build(options, network, options.trt_python, "trt-rtx", precision, *capability)
