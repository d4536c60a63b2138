"""Every backend × precision × batch of a machine, step by step, each in a process of its own.

A step is a ``vgg-deploy`` command with a time limit: a crash, a hang or a missing library is a row,
not the end. Results are written after every step, and a second call goes on where the first one
stopped. TensorRT may live in another Python, which needs the core dependencies but no torch: it
works on the same bundles on disk, and without torch its engines are held against golden vectors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vgg_deploy import environment, jsonio
from vgg_deploy.errors import UsageError
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import BenchReport

ROOT = Path(__file__).resolve().parent.parent.parent  # what PYTHONPATH needs
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
_KEPT = ("make", "verify", "golden", "bench")  # the others find out themselves what is valid
_CHILD = "vgg_deploy.pipeline.machine_child"
_MAIN = "import sys; from vgg_deploy.cli import main; sys.exit(main(sys.argv[1:]))"


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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything so far."""

    schema_version: int = 1
    made_at: str
    environment: environment.Environment
    options: Options
    done: tuple[Done, ...] = ()


def check(path: Path, options: Options, watch: Watcher | None = None) -> Report:
    """Every step that ``path`` does not hold yet; it is written after each."""
    watch = watch or Silent()
    report = _begun(path, options)
    kept = {d.step: d for d in report.done if d.code == 0 and d.step.kind in _KEPT}
    report = replace(report, done=())
    waiting: list[Step] = [
        Step(kind="doctor", network="", python=python, words=("doctor", "--json"))
        for python in dict.fromkeys((options.python, options.trt_python))
    ]
    planned = False
    while waiting or not planned:
        if not waiting:
            waiting, planned = list(steps(options, report.done)), True
            continue
        step = waiting.pop(0)
        watch.begin(f"{step.kind} {' '.join(step.words)}")
        done = kept.get(step) or run(step, options.step_seconds)
        report = replace(report, done=(*report.done, done))
        watch.say(
            f"{step.kind} {step.network} exit {done.code} in {done.seconds:.1f} s {done.said}"
        )
        rest = [d for s, d in kept.items() if s in waiting]  # a stop must not lose what was kept
        jsonio.save(path, replace(report, done=(*report.done, *rest)))
    jsonio.save(path, report)
    return report


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
    largest, best = max(options.batches), sorted(options.batches)[len(options.batches) // 2]
    for flavour, more in flavours:
        tf32 = ("tf32",) if "fp32" in options.precisions and flavour == "tensorrt" else ()
        for precision in (*options.precisions, *tf32):
            words = ("build", bundle, "--flavour", flavour, "--precision", precision)
            shape = ("--batch", f"1:{best}:{largest}", *more, "--json")
            python = options.trt_python
            yield Step(kind="build", network=network, python=python, words=(*words, *shape))


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


def run(step: Step, limit: float) -> Done:
    """One step in a process of its own; never raises for what happens there."""
    own = step.kind == "golden" or (step.kind == "make" and step.words[0] != "train")
    command = [step.python, *(["-m", _CHILD, step.kind] if own else ["-c", _MAIN])]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    try:
        ended = subprocess.run(
            [*command, *step.words], capture_output=True, text=True, timeout=limit, check=False,
            env=os.environ | {"PYTHONPATH": path} | _environment_for(step),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Done(step=step, code=-1, seconds=limit, said=f"ended after {limit:g} s")
    except OSError as error:
        return Done(step=step, code=-1, seconds=0.0, said=f"{step.python}: {error.strerror}")
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line] or lines[-1:]
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = None
    seconds = round(time.perf_counter() - start, 2)
    return Done(
        step=step, code=ended.returncode, seconds=seconds, said="".join(errors[:1]), answer=answer
    )


def _environment_for(step: Step) -> dict[str, str]:
    """ONNX Runtime's TensorRT provider has no other way to leave TF32 off."""
    return {"NVIDIA_TF32_OVERRIDE": "0"} if "ort-trt" in step.words else {}


def merged(report: Report, network: str, kind: type[Any], step: Kind) -> list[Any]:
    """The reports of all steps of one kind as one report; none where no step gave one."""
    texts = [
        json.dumps(done.answer)
        for done in report.done
        if done.step.kind == step and done.step.network == network and done.answer
    ]
    reports = [jsonio.loads(kind, text, source=f"{step} of {network}") for text in texts]
    if not reports:
        return []
    rows = tuple(row for one in reports for row in one.rows)
    more = {}
    if kind is BenchReport:
        more["ceilings"] = next((one.ceilings for one in reports if one.ceilings), ())
    return [replace(reports[0], rows=rows, **more)]


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


def _begun(path: Path, options: Options) -> Report:
    """An earlier report of the same options on this machine, or a new one."""
    fresh = Report(made_at=environment.now(), environment=environment.capture(), options=options)
    if not path.exists():
        return fresh
    earlier = jsonio.load(Report, path)
    same = (earlier.options, earlier.environment) == (options, fresh.environment)
    if not same:
        raise UsageError(
            f"{path} holds a check with other options or of another machine",
            "choose another file with -o, or remove it",
        )
    return earlier
