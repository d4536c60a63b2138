"""Every backend × precision × batch of a machine, step by step, each in a process of its own.

A step has a time limit: a crash, a hang or a missing library is a row, not the end. Results are
written after every step, and a second call goes on where the first one stopped, on an empty disk,
too. TensorRT may live in another Python, which needs the core dependencies but no torch: it works
on the same bundles on disk, and without torch its engines are held against golden vectors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from vgg_deploy import environment, jsonio
from vgg_deploy.bundle import open_bundle
from vgg_deploy.errors import UsageError, VggDeployError
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.machine_found import judge_in, versions_of
from vgg_deploy.pipeline.machine_places import Places
from vgg_deploy.pipeline.machine_run import SAMPLES, run
from vgg_deploy.pipeline.machine_steps import (
    Done,
    Kind,
    Options,
    Step,
    bundle_of,
    planned,
)
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import BenchReport

_CELLS = ("verify", "golden", "bench")
_SAMPLES = f"of each timing at most {SAMPLES} samples, evenly spaced"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything so far."""

    schema_version: int = 2
    made_at: str
    environment: environment.Environment  # of the first call; each step has its own versions
    options: Options  # with names for paths, as in all that follows
    places: str = ""  # SHA-256 of the paths; older reports hold the paths themselves
    done: tuple[Done, ...] = ()
    not_started: int = 0  # steps for which the last call had no time left
    samples: str = _SAMPLES


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
    places = Places(options)
    earlier = _begun(path, places)
    report = replace(earlier, options=places.told, not_started=0)
    found: list[Done] = []
    for step in planned(places.told, found):
        kept = _kept(step, earlier, found, places, again=again)
        seconds = min(step.limit(options), end - monotonic())
        if kept is None and seconds <= 0:
            report = replace(report, not_started=report.not_started + 1)
            continue
        watch.begin(f"{step.kind} {' '.join(step.words)}")
        done = kept or _marked(places.named(run(places.real(step), seconds)), found)
        found.append(done)
        watch.say(
            f"{step.kind} {step.network} exit {done.code} in {done.seconds:.1f} s {done.said}"
        )
        report = replace(report, done=_with_earlier(found, earlier))
        _save(path, report)
    _save(path, report)
    return report


def _save(path: Path, report: Report) -> None:
    """Compactly: with a line for each sample it would be several times as long."""
    write_text(path, jsonio.dumps(report, indent=None) + "\n")


def _marked(done: Done, found: Sequence[Done]) -> Done:
    """With the weights and the versions that it ran with."""
    weights = _weights(found).get(done.step.network, "")
    if done.step.kind == "make":
        weights = _digest(done)
    versions = dict(versions_of(done.step.python, found))
    return replace(done, weights=weights, versions=versions)


def _digest(done: Done) -> str:
    return str(done.answer.get("sha256", "")) if isinstance(done.answer, dict) else ""


def _weights(found: Sequence[Done]) -> Mapping[str, str]:
    """Digest of each network's checkpoint, as far as it was made."""
    made = [done for done in found if done.step.kind == "make" and not done.code]
    return {done.step.network: _digest(done) for done in made}


def _kept(
    step: Step, earlier: Report, found: Sequence[Done], places: Places, *, again: bool
) -> Done | None:
    """The earlier answer of a step that need not run, or None.

    Doctor and export find out themselves what is valid, and so does a build, which is not needed
    once its engine was judged and timed. A network is there when its checkpoint lies on this disk.
    A timing goes with its verdict, and both with their weights; the verdict is the one that is to
    be had now, with torch or without.
    """
    done = next((done for done in earlier.done if done.step == step), None)
    if step.kind == "limits":
        return done if done and not done.code else None
    if step.kind == "make":
        return done if done and not done.code and _lies_there(step, places.given, done) else None
    if step.kind not in (*_CELLS, "build"):
        return None
    kinds = {judge_in(step.python, found), "bench"}
    pair = [one for one in earlier.done if one.step.cell == step.cell and one.step.kind in kinds]
    weights = _weights(found).get(step.network, "")
    good = all(_is_answer(one, again) and one.weights == weights for one in pair)
    if step.kind == "build":
        good = good and done is not None and done.code == 0 and done.weights == weights
    return done if good and kinds == {one.step.kind for one in pair} else None


def _is_answer(done: Done, again: bool) -> bool:
    """Whether a step ended well, or badly but with an answer; a crash or a timeout has none."""
    return done.code == 0 or (done.code > 0 and done.answer is not None and not again)


def _lies_there(step: Step, options: Options, done: Done) -> bool:
    try:
        bundle = open_bundle(Path(bundle_of(options, step.network)))
        checkpoint = bundle.checkpoint
    except VggDeployError:
        return False
    return checkpoint.sha256 == _digest(done) and bundle.problem(checkpoint) is None


def _with_earlier(found: Sequence[Done], earlier: Report) -> tuple[Done, ...]:
    """What this call found, and what the file holds of other steps: a stop must not lose it.

    Rows of other weights go: nothing in the bundles is theirs any more. Of two calls that were
    ended within a step, the one that came further stays.
    """
    steps, weights = {done.step for done in found}, _weights(found)
    others = [done for done in earlier.done if done.step not in steps]
    rest = [d for d in others if d.weights in ("", weights.get(d.step.network, d.weights))]
    return (*(_further(done, earlier) for done in found), *rest)


def _further(done: Done, earlier: Report) -> Done:
    old = next((one for one in earlier.done if one.step == done.step), None)
    if old is None or done.code >= 0 or old.weights != done.weights:
        return done
    return old if _rows(old) > _rows(done) else done


def _rows(done: Done) -> int:
    return len(done.answer.get("rows", ())) if isinstance(done.answer, dict) else 0


def merged(report: Report, network: str, kind: type[Any], *steps: Kind) -> list[Any]:
    """The reports of all steps of these kinds as one report; none where no step gave one."""
    texts = [
        json.dumps(done.answer)
        for done in report.done
        if done.step.kind in steps and done.step.network == network and _rows(done)
    ]
    reports = [jsonio.loads(kind, text, source=f"{steps[0]} of {network}") for text in texts]
    if not reports:
        return []
    more: dict[str, Any] = {"rows": tuple(row for one in reports for row in one.rows)}
    if kind is BenchReport:
        more["ceilings"] = _ceilings(reports[0], report)
    return [replace(reports[0], **more)]


def _ceilings(one: BenchReport, report: Report) -> Any:
    """What the machine can do at most: measured once, for all networks."""
    limits = [d.answer for d in report.done if d.step.kind == "limits" and d.answer]
    if not limits:
        return one.ceilings
    plain = json.loads(jsonio.dumps(one, indent=None)) | limits[-1]
    return jsonio.loads(BenchReport, json.dumps(plain), source="the limits").ceilings


def _begun(path: Path, places: Places) -> Report:
    """An earlier report of the same options on this machine, or a new one."""
    fresh = Report(
        made_at=environment.now(),
        environment=environment.capture(),
        options=places.told,
        places=places.key,
    )
    if not path.exists():
        return fresh
    earlier = jsonio.load(Report, path)
    if _alike(earlier) != _alike(fresh):
        raise UsageError(
            f"{path} holds a check with other options, paths among them, or of another machine",
            "choose another file with -o, or remove it",
        )
    if earlier.places:
        return earlier
    return replace(earlier, places=places.key, done=tuple(map(places.named, earlier.done)))


def _alike(report: Report) -> tuple[object, ...]:
    """What two calls must have in common; a package may be installed between them."""
    here, options = report.environment, report.options
    options = replace(options, step_seconds=1.0, build_seconds=1.0)
    return (
        replace(options, work="", python="", trt_python=""),
        report.places or Places(report.options).key,
        here.gpu,
        here.driver,
        here.cpu,
    )
