"""Every backend × precision × batch of a machine, step by step, each in a process of its own.

A step is a ``vgg-deploy`` command with a time limit: a crash, a hang or a missing library is a row,
not the end. Results are written after every step, and a second call goes on where the first one
stopped. TensorRT may live in another Python, which needs the core dependencies but no torch: it
works on the same bundles on disk, and without torch its engines are held against golden vectors.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from vgg_deploy import environment, jsonio
from vgg_deploy.errors import UsageError
from vgg_deploy.pipeline.machine_steps import Done, Kind, Options, Step, planned
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.process import run_group
from vgg_deploy.results import BenchReport

ROOT = Path(__file__).resolve().parent.parent.parent  # what PYTHONPATH needs
_KEPT = ("make", "verify", "golden", "bench")  # the others find out themselves what is valid
_CHILD = "vgg_deploy.pipeline.machine_child"
_MAIN = (
    "import sys; from vgg_deploy.process import end_with_parent; end_with_parent(); "
    "from vgg_deploy.cli import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything so far."""

    schema_version: int = 1
    made_at: str
    environment: environment.Environment
    options: Options
    done: tuple[Done, ...] = ()
    not_started: int = 0  # steps for which the last call had no time left


def check(
    path: Path,
    options: Options,
    watch: Watcher | None = None,
    *,
    again: bool = False,
    total_seconds: float = math.inf,
) -> Report:
    """Every step that ``path`` holds no answer of yet; it is written after each.

    ``again``: also those whose answer is a verdict or a timing that is not in order. No step is
    started after ``total_seconds``, and none runs for longer than what is left of them.
    """
    watch, end = watch or Silent(), monotonic() + total_seconds
    earlier = _begun(path, options)
    kept = {done.step: done for done in earlier.done if _is_kept(done, again)}
    report = replace(earlier, not_started=0)
    found: list[Done] = []
    for step in planned(options, found):
        seconds = min(options.step_seconds, end - monotonic())
        if step not in kept and seconds <= 0:
            report = replace(report, not_started=report.not_started + 1)
            continue
        watch.begin(f"{step.kind} {' '.join(step.words)}")
        done = kept.get(step) or run(step, seconds)
        found.append(done)
        watch.say(
            f"{step.kind} {step.network} exit {done.code} in {done.seconds:.1f} s {done.said}"
        )
        report = replace(report, done=_with_earlier(found, earlier))
        jsonio.save(path, report)
    jsonio.save(path, report)
    return report


def _is_kept(done: Done, again: bool) -> bool:
    """Whether a step need not run: it ended well, or badly but with an answer."""
    answered = done.code == 0 or (done.answer is not None and not again)
    return done.step.kind in _KEPT and answered


def _with_earlier(found: Sequence[Done], earlier: Report) -> tuple[Done, ...]:
    """What this call found, and what the file holds of other steps: a stop must not lose it."""
    steps = {done.step for done in found}
    return (*found, *(done for done in earlier.done if done.step not in steps))


def run(step: Step, limit: float) -> Done:
    """One step in a process of its own; never raises for what happens there."""
    own = step.kind == "golden" or (step.kind == "make" and step.words[0] != "train")
    command = [step.python, *(["-m", _CHILD, step.kind] if own else ["-c", _MAIN])]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    start = monotonic()
    try:
        ended = run_group(
            [*command, *step.words],
            limit,
            env=os.environ | {"PYTHONPATH": path} | _environment_for(step),
        )
    except subprocess.TimeoutExpired:
        return Done(step=step, code=-1, seconds=round(limit, 2), said=f"ended after {limit:.4g} s")
    except OSError as error:
        return Done(step=step, code=-1, seconds=0.0, said=f"{step.python}: {error.strerror}")
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line] or lines[-1:]
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = None
    seconds = round(monotonic() - start, 2)
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
