"""Which commands check a machine, from what doctor says of each Python: the plan, nothing run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["doctor", "make", "export", "build", "verify", "golden", "bench"]
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
TRT_BACKENDS = {"trt": "tensorrt", "trt-rtx": "tensorrt-rtx"}
RTX_WITHOUT_GPU = "8.9"  # TensorRT-RTX builds for a GPU that is not here
# Words of train. Accuracy is what int8 is judged by, so networks are trained, as far as the device
# can in minutes.
TRAINED = {
    "vgg16": ("--arch", "vgg16", "--width", "1", "--size", "224", "--epochs", "2"),
    "vgg11": ("--arch", "vgg11", "--width", "0.25", "--size", "64", "--epochs", "3"),
    "tiny": ("--arch", "1x8-1x16-2x16_bn", "--width", "1", "--size", "32", "--fc-width", "64",
             "--epochs", "2", "--data", "sample"),
}  # fmt: skip
NOT_ON_CPU = ("vgg16",)  # gets seeded random weights there


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is checked, where, and for how long."""

    device: Literal["cuda", "cpu"]
    networks: tuple[str, ...] = ("vgg16", "vgg11")
    precisions: tuple[str, ...] = PRECISIONS
    batches: tuple[int, ...] = (1, 8, 64, 256)
    backends: tuple[str, ...] = ()  # empty: all that are usable
    seconds: float = 3.0  # of measuring per cell
    images: int = 16  # verified with
    step_seconds: float = 1800.0  # after which a step is ended
    work: str = "artifacts/gpu_check"
    python: str = sys.executable
    trt_python: str = sys.executable


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command."""

    kind: Kind
    network: str
    python: str
    words: tuple[str, ...]  # of vgg-deploy; of machine_child for "make" and "golden"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step ended with; ``answer`` is the command's own JSON."""

    step: Step
    code: int  # exit code; -1: ended after its time
    seconds: float
    said: str  # last line on stderr
    answer: Any = None


def planned(options: Options, found: Sequence[Done]) -> Iterator[Step]:
    """What doctor says in each Python, then all commands; ``found`` grows while these are run."""
    for python in dict.fromkeys((options.python, options.trt_python)):
        yield Step(kind="doctor", network="", python=python, words=("doctor", "--json"))
    yield from steps(options, tuple(found))


def steps(options: Options, found: Sequence[Done]) -> Iterator[Step]:
    """All commands, from what doctor said of each Python."""
    for network in options.networks:
        bundle = str(Path(options.work, network))
        yield Step(kind="make", network=network, python=options.python,
                   words=_make_words(options, network, bundle))  # fmt: skip
        precisions = [word for p in options.precisions for word in ("-p", p)]
        export = ("export", bundle, *precisions, "--calibration-data", "sample")
        yield Step(kind="export", network=network, python=options.python, words=(*export, "--json"))
        script = ("export", bundle, "-f", "torchscript", "--json")
        yield Step(kind="export", network=network, python=options.python, words=script)
        yield from _builds(options, network, bundle, found)
        first = True
        for python, backends in usable_backends(options, found).items():
            for backend in backends:
                yield from _cells(options, network, bundle, python, backend, found, limits=first)
                first = False


def _make_words(options: Options, network: str, bundle: str) -> tuple[str, ...]:
    if options.device == "cpu" and network in NOT_ON_CPU:
        return (network, bundle)
    return ("train", *TRAINED[network], "-o", bundle, "--replace")


def _builds(options: Options, network: str, bundle: str, found: Sequence[Done]) -> Iterator[Step]:
    """Engines of every TensorRT that is here; without a GPU those of TensorRT-RTX."""
    usable = usable_backends(options, found).get(options.trt_python, [])
    flavours: list[tuple[str, tuple[str, ...]]]
    flavours = [(TRT_BACKENDS[name], ()) for name in usable if name in TRT_BACKENDS]
    if options.device == "cpu":
        flavours = [("tensorrt-rtx", ("--compute-capability", RTX_WITHOUT_GPU))]
    # A profile per size, so that each is tuned; golden vectors are run one by one.
    batches = [word for n in sorted({1, *options.batches}) for word in ("--batch", f"{n}:{n}:{n}")]
    for flavour, more in flavours:
        tf32 = ("tf32",) if "fp32" in options.precisions and flavour == "tensorrt" else ()
        for precision in (*options.precisions, *tf32):
            words = ("build", bundle, "--flavour", flavour, "--precision", precision)
            words = (*words, *batches, *more, "--json")
            yield Step(kind="build", network=network, python=options.trt_python, words=words)


def _cells(
    options: Options,
    network: str,
    bundle: str,
    python: str,
    backend: str,
    found: Sequence[Done],
    *,
    limits: bool,
) -> Iterator[Step]:
    """Verify a backend, then time it at each batch while its verdicts are the stored ones.

    ``limits``: the first of these steps also measures what the machine can do at most.
    """
    batches = [word for size in options.batches for word in ("--batch", str(size))]
    verify = ("verify", bundle, "-b", backend, "--images", str(options.images), *batches, "--json")
    if "torch" in _doctor(python, found).get("environment", {}).get("versions", {}):
        yield Step(kind="verify", network=network, python=python, words=verify)
    else:
        yield Step(kind="golden", network=network, python=python, words=(backend, bundle))
    for size in options.batches:
        words = ("bench", bundle, "-b", backend, "--batch", str(size))
        with_limits = "--limits" if limits and size == options.batches[0] else "--no-limits"
        timing = ("--seconds", f"{options.seconds:g}", with_limits, "--json")
        yield Step(kind="bench", network=network, python=python, words=(*words, *timing))


def usable_backends(options: Options, found: Sequence[Done]) -> dict[str, list[str]]:
    """Backends of the wanted device by the Python that has them; TensorRT's only in its own."""
    usable: dict[str, list[str]] = {}
    for python in dict.fromkeys((options.python, options.trt_python)):
        for row in _doctor(python, found).get("backends", ()):
            own = options.trt_python if row["name"] in TRT_BACKENDS else options.python
            on_device = row["detail"].endswith(f" on {options.device}")
            wanted = not options.backends or row["name"] in options.backends
            if row["usable"] and on_device and wanted and python == own:
                usable.setdefault(python, []).append(row["name"])
    return usable


def _doctor(python: str, found: Sequence[Done]) -> dict[str, Any]:
    for done in found:
        if done.step.kind == "doctor" and done.step.python == python:
            return done.answer or {}
    return {}
