"""A check of a machine that is stopped, goes on, runs out of time, or repeats what was wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from scripts import gpu_check
from tests.pipeline.test_machine import FOUND, OPTIONS, doctor
from vgg_deploy import environment, jsonio
from vgg_deploy.environment import Environment
from vgg_deploy.errors import UsageError
from vgg_deploy.pipeline import machine
from vgg_deploy.pipeline.machine import Report, check
from vgg_deploy.pipeline.machine_steps import Done, Step, steps

PLANNED = [*(done.step for done in FOUND), *steps(OPTIONS, FOUND)]


RULE, CRASH = "fp32", "int8"  # precisions of engines whose timing breaks a rule, or crashes


@dataclass
class Scripted:
    """Stands for ``run``: doctor answers as above; one bench breaks a rule, another crashes."""

    ran: list[Step] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    stop_at: int = 0  # the step that Ctrl-C meets, counted from 1
    takes: float = 0.0  # seconds of each step
    clock: float = 0.0
    weights: str = "first"  # digest of what make makes
    doctors: tuple[Done, ...] = FOUND
    rows: int = 1  # that the bench which crashes had given by then

    def __call__(self, step: Step, limit: float) -> Done:
        self.ran.append(step)
        self.limits.append(limit)
        self.clock += self.takes
        if len(self.ran) == self.stop_at:
            raise KeyboardInterrupt
        if step.kind == "doctor":
            unknown = Done(step=step, code=0, seconds=1.0, said="", answer={})
            return next((done for done in self.doctors if done.step == step), unknown)
        code = {RULE: 8, CRASH: -11}.get(step.precision, 0) if step.kind == "bench" else 0
        answer: Any = {"rows": [{}] * (self.rows if code < 0 else 1)} if code else {}
        answer = {"sha256": self.weights} if step.kind == "make" else answer
        return Done(step=step, code=code, seconds=1.0, said="", answer=answer)

    def forget(self) -> None:
        self.ran, self.limits, self.stop_at = [], [], 0


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    made = Scripted()
    monkeypatch.setattr(machine, "run", made)
    monkeypatch.setattr(machine, "monotonic", lambda: made.clock)
    monkeypatch.setattr(machine, "_lies_there", lambda step, options, done: True)
    return made


def measured(done: tuple[Done, ...]) -> set[Step]:
    return {d.step for d in done if d.step.kind in ("verify", "golden", "bench")}


def test_what_was_measured_survives_a_stop(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    scripted.stop_at = 12
    with pytest.raises(KeyboardInterrupt):
        check(path, OPTIONS)
    before = measured(jsonio.load(Report, path).done)
    assert before, "something had been measured"
    scripted.forget()
    report = check(path, OPTIONS)
    assert not set(scripted.ran) & {s for s in before if s.precision == RULE}
    assert [done.step for done in report.done] == PLANNED
    assert jsonio.load(Report, path) == report


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5])
def test_a_second_stop_loses_nothing_that_the_first_call_found(
    scripted: Scripted, tmp_path: Path, stop_at: int
) -> None:
    """While doctor runs, nothing is planned yet: the file must not become doctor's alone."""
    path = tmp_path / "check.json"
    whole = check(path, OPTIONS)
    scripted.forget()
    scripted.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        check(path, OPTIONS)
    assert {d.step for d in jsonio.load(Report, path).done} == {d.step for d in whole.done}


def test_what_is_no_longer_planned_stays(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    whole = check(path, OPTIONS)
    blind = replace(FOUND[0], answer=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "run", lambda s, n: blind if s == blind.step else scripted(s, n))
        check(path, OPTIONS)
    assert measured(jsonio.load(Report, path).done) >= measured(whole.done)


def test_an_answer_is_kept_whatever_it_says_until_asked_again(
    scripted: Scripted, tmp_path: Path
) -> None:
    path = tmp_path / "check.json"
    check(path, OPTIONS)

    def run_again(again: bool) -> set[tuple[str, str]]:
        scripted.forget()
        check(path, OPTIONS, again=again)
        assert not [s for s in scripted.ran if s.kind in ("make", "limits")]
        cells = [s for s in scripted.ran if s.kind in ("verify", "golden", "bench")]
        return {(s.kind, s.precision) for s in cells}

    crashed = {("golden", CRASH), ("bench", CRASH)}
    assert run_again(again=False) == crashed, "a crash is no answer; a timing needs its verdict"
    assert run_again(again=True) == crashed | {("golden", RULE), ("bench", RULE)}


def test_an_empty_disk_gets_the_same_network_and_other_weights_are_measured_again(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.json"
    check(path, OPTIONS)
    monkeypatch.setattr(machine, "_lies_there", lambda step, options, done: False)
    for weights, measured_again in (("first", False), ("other", True)):
        scripted.forget()
        scripted.weights = weights
        report = check(path, OPTIONS)
        assert [s.kind for s in scripted.ran].count("make") == 1
        assert ("verify" in {s.kind for s in scripted.ran}) == measured_again
        assert {d.weights for d in report.done if d.step.network} == {weights}


def test_an_engine_that_was_judged_and_timed_is_not_built_again(
    scripted: Scripted, tmp_path: Path
) -> None:
    """On an empty disk it would take its minutes for nothing."""
    path = tmp_path / "check.json"
    check(path, OPTIONS)
    scripted.forget()
    check(path, OPTIONS)
    assert [s.precision for s in scripted.ran if s.kind == "build"] == [CRASH]
    scripted.forget()
    check(path, OPTIONS, again=True)
    assert {s.precision for s in scripted.ran if s.kind == "build"} == {RULE, CRASH}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "_lies_there", lambda step, options, done: False)
        scripted.forget()
        scripted.weights = "other"
        check(path, OPTIONS)
    assert {s.precision for s in scripted.ran if s.kind == "build"} == {RULE, CRASH, "tf32"}


def test_a_report_of_before_builds_told_their_backend_is_gone_on_with(
    scripted: Scripted, tmp_path: Path
) -> None:
    path = tmp_path / "check.json"
    whole = check(path, OPTIONS)
    old = [replace(d, step=replace(d.step, backend="")) if d.step.kind == "build" else d
           for d in whole.done]  # fmt: skip
    jsonio.save(path, replace(whole, done=tuple(old)))
    scripted.forget()
    report = check(path, OPTIONS)
    assert [s.precision for s in scripted.ran if s.kind == "build"] == [CRASH]
    assert [d.step.words for d in report.done] == [d.step.words for d in whole.done]


def test_an_engine_is_built_for_a_verdict_that_torch_can_give_now(
    scripted: Scripted, tmp_path: Path
) -> None:
    """It was judged without torch, on a disk that is gone."""
    path = tmp_path / "check.json"
    check(path, OPTIONS)
    scripted.forget()
    scripted.doctors = (FOUND[0], doctor("other", torch=True, trt=True))
    check(path, OPTIONS)
    again = {(s.kind, s.precision) for s in scripted.ran if s.backend == "trt"}
    assert again == {(k, p) for k in ("build", "verify", "bench") for p in (RULE, CRASH, "tf32")}


def test_a_build_has_its_own_limit_within_the_total(scripted: Scripted, tmp_path: Path) -> None:
    options = replace(OPTIONS, step_seconds=25.0, build_seconds=99.0)
    check(tmp_path / "check.json", options)
    limits = {s.kind: n for s, n in zip(scripted.ran, scripted.limits, strict=True)}
    assert limits == {kind: 99.0 if kind == "build" else 25.0 for kind in limits}
    scripted.forget()
    scripted.takes = 0.001
    check(tmp_path / "other.json", options, total_seconds=50.0)
    builds = [n for s, n in zip(scripted.ran, scripted.limits, strict=True) if s.kind == "build"]
    assert builds
    assert max(builds) < 50.0


def test_rows_of_other_weights_do_not_stay(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    check(path, OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "_lies_there", lambda step, options, done: False)
        scripted.forget()
        scripted.weights, scripted.stop_at = "other", 6
        with pytest.raises(KeyboardInterrupt):
            check(path, OPTIONS)
    assert {d.weights for d in jsonio.load(Report, path).done if d.step.network} == {"other"}


def test_a_bundle_that_is_gone_or_another_is_made_again(tiny_bundle: Any, tmp_path: Path) -> None:
    options = replace(OPTIONS, work=str(tiny_bundle.root.parent), networks=(tiny_bundle.root.name,))
    step = Step(kind="make", network=tiny_bundle.root.name, python="p", words=())
    there = Done(step=step, code=0, seconds=1.0, said="",
                 answer={"sha256": tiny_bundle.checkpoint.sha256})  # fmt: skip
    assert machine._lies_there(step, options, there)
    assert not machine._lies_there(step, options, replace(there, answer={"sha256": "0" * 64}))
    gone = replace(options, work=str(tmp_path / "gone"))
    assert not machine._lies_there(step, gone, there)


@pytest.mark.parametrize(("rows", "left"), [(0, 3), (5, 5)])
def test_of_two_calls_that_crash_the_one_that_came_further_stays(
    rows: int, left: int, scripted: Scripted, tmp_path: Path
) -> None:
    path = tmp_path / "check.json"
    for scripted.rows in (3, rows):
        report = check(path, OPTIONS)
    crashed = [d for d in report.done if d.step.kind == "bench" and d.step.precision == CRASH]
    assert [len(d.answer["rows"]) for d in crashed] == [left]


def test_a_package_that_is_installed_meanwhile_is_no_other_machine(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.json"
    here = environment.capture()
    check(path, OPTIONS)

    def meanwhile(changed: Environment) -> None:
        monkeypatch.setattr(environment, "capture", lambda: changed)

    meanwhile(replace(here, versions={"onnxruntime-gpu": "1.31.1"}))
    report = check(path, replace(OPTIONS, step_seconds=600.0))
    torch = [d for d in report.done if d.step.backend == "torch-cuda"]
    assert torch
    assert all(d.versions == {"torch": "2.14"} for d in torch)
    meanwhile(replace(here, gpu="another"))
    with pytest.raises(UsageError, match="another machine"):
        check(path, OPTIONS)


def test_no_step_begins_beyond_the_total(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    scripted.takes = 10.0
    report = check(path, replace(OPTIONS, step_seconds=25.0), total_seconds=42.0)
    assert scripted.limits == [25.0, 25.0, 22.0, 12.0, 2.0]
    assert report.not_started == len(PLANNED) - 5
    assert jsonio.load(Report, path) == report
    scripted.forget()
    report = check(path, replace(OPTIONS, step_seconds=25.0))
    assert report.not_started == 0
    assert [done.step for done in report.done] == PLANNED


def test_a_partial_check_says_so(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.takes = 10.0
    words = ["-o", str(tmp_path / "x.json"), "--device", "cpu", "--network", "tiny"]
    python = ["--trt-python", "other"]
    assert gpu_check.main([*words, *python, "--total-seconds", "5"]) == 1
    assert "steps were not started within 5 s; call again" in capsys.readouterr().err


def test_ctrl_c_ends_with_a_line(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.stop_at = 2
    assert gpu_check.main(["-o", str(tmp_path / "x.json"), "--device", "cpu"]) == 130
    assert "stopped; call again" in capsys.readouterr().err


def test_other_options_are_refused(scripted: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    check(path, OPTIONS)
    with pytest.raises(UsageError, match="other options"):
        check(path, replace(OPTIONS, seconds=1.0))
