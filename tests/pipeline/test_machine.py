"""The check of a machine: what is run, in which Python, what survives, and once for real."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts import gpu_check
from tests.machine_paths import machine_paths
from tests.test_process import is_gone
from vgg_deploy import jsonio
from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Selective
from vgg_deploy.cuda import TF32_VARIABLE
from vgg_deploy.doctor import RTX_BUILDER
from vgg_deploy.pipeline import machine_run
from vgg_deploy.pipeline.machine import Report
from vgg_deploy.pipeline.machine_found import unusable_backends
from vgg_deploy.pipeline.machine_run import answers, environment_for, joined, run
from vgg_deploy.pipeline.machine_steps import OPENS, Done, Options, Step, planned, steps

OPTIONS = Options(
    device="cuda",
    networks=("tiny",),
    precisions=("fp32", "int8"),
    batches=(1, 8, 64),
    python="main",
    trt_python="other",
)


def doctor(python: str, torch: bool, **backends: bool) -> Done:
    """What doctor says in one Python: backend names, and whether each is usable."""
    rows = [
        {"name": name.replace("_", "-"), "usable": usable, "detail": "opens onnx on cuda"}
        for name, usable in backends.items()
    ]
    versions = {"torch": "2.14"} if torch else {}
    others = [{"name": RTX_BUILDER, "usable": True}]
    answer = {"backends": rows, "others": others, "environment": {"versions": versions}}
    step = Step(kind="doctor", network="", python=python, words=("doctor", "--json"))
    return Done(step=step, code=0, seconds=1.0, said="", answer=answer)


FOUND = (
    doctor("main", torch=True, torch_cuda=True, ort_cuda=False, trt=True),
    doctor("other", torch=False, trt=True, ort_cuda=True),
)


def told(planned: list[Step], kind: str) -> list[tuple[str, ...]]:
    return [step.words for step in planned if step.kind == kind]


def test_tensorrt_runs_in_its_own_python_on_the_same_bundle() -> None:
    planned = list(steps(OPTIONS, FOUND))
    assert {step.python for step in planned if step.kind == "build"} == {"other"}
    judged = told(planned, "golden")
    bundle = str(Path(OPTIONS.work, "tiny"))
    assert {words[:2] for words in judged} == {("trt", bundle)}, "no torch there"
    (words,) = told(planned, "verify")
    assert words[:2] == ("torch-cuda", bundle)
    timed = {(s.python, s.backend) for s in planned if s.kind == "bench"}
    assert timed == {("main", "torch-cuda"), ("other", "trt")}, "what is not usable is not timed"
    (limits,) = [s for s in planned if s.kind == "limits"]
    assert limits.python == "main", "the other one has no torch to measure them with"


def test_a_torch_that_cannot_be_imported_judges_nothing() -> None:
    """PYTHONPATH may hold the packages of another Python, whose versions are found all the same."""
    other = doctor("other", torch=True, trt=True)
    assert isinstance(other.answer, dict)
    other.answer["backends"].append({"name": "torch", "usable": False, "detail": "not importable"})
    kinds = {s.kind for s in steps(OPTIONS, (FOUND[0], other)) if s.python == "other"}
    assert kinds == {"build", "golden", "bench"}


@pytest.mark.parametrize(
    ("name", "version", "lacking"),
    [
        ("tensorrt", "8.6.0", {"bf16", "fp8"}),
        ("tensorrt", "10.14.1.48.post1", set()),
        ("tensorrt-cu13-bindings", "11.4.0.106", set()),
        ("numpy", "2.4.6", set()),  # not told: everything is tried
    ],
)
def test_only_what_this_tensorrt_builds_is_exported_and_built(
    name: str, version: str, lacking: set[str]
) -> None:
    other = doctor("other", torch=False, trt=True)
    assert isinstance(other.answer, dict)
    other.answer["environment"]["versions"][name] = version
    options = replace(OPTIONS, precisions=Options.precisions)
    plan = list(steps(options, (FOUND[0], other)))
    wanted = {*Options.precisions, "tf32"} - lacking
    assert {s.precision for s in plan if s.backend == "trt"} == wanted
    exported = {w for words in told(plan, "export") for b, w in pairwise(words) if b == "-p"}
    assert exported == wanted - {"tf32"}


def test_random_weights_are_calibrated_with_few_images() -> None:
    def words(random: bool) -> set[str]:
        options = replace(OPTIONS, precisions=("fp32", "int8"), random_weights=random)
        return {word for line in told(list(steps(options, FOUND)), "export") for word in line}

    assert words(random=True) - words(random=False) == {"--calibration-images", "16"}


def test_only_files_that_something_opens_are_exported() -> None:
    options = replace(OPTIONS, precisions=("fp32", "fp16", "bf16", "int8"), trt_python="main")

    def exported(**backends: bool) -> list[str]:
        found = (doctor("main", True, **backends),)
        words = told(list(steps(options, found)), "export")
        return [w for line in words for before, w in pairwise(line) if before in ("-p", "-f")]

    assert exported(torch_cuda=True) == []
    assert exported(ort_cuda=True) == ["fp32", "fp16"]
    assert exported(ort_cuda=True, trt=True) == ["fp32", "fp16", "bf16", "int8"]
    assert exported(torchscript_cuda=True) == ["torchscript"]


@pytest.mark.parametrize("name", ["ort-cpu", "ort-cuda", "ort-trt"])
def test_what_a_backend_opens_is_what_it_does_not_refuse(
    name: str, tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TF32_VARIABLE, "0")
    backend = get_backend(name)
    assert isinstance(backend, Selective)
    kinds: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")
    artifact = replace(tiny_bundle.checkpoint, format="onnx")
    taken = [p for p in kinds if backend.refuses(replace(artifact, precision=p)) is None]
    assert tuple(taken) == OPENS[name]


def test_each_backend_is_probed_where_doctor_gives_nothing() -> None:
    """A library that ends the process takes doctor along; the other backends are still there."""
    found: list[Done] = []
    options = replace(OPTIONS, trt_python="main", backends=("torch-cuda", "ort-cuda"))
    kinds = []
    for step in planned(options, found):
        kinds.append((step.kind, step.words[0]))
        row = {"name": step.words[0], "usable": True, "detail": "opens checkpoint on cuda"}
        versions = {"versions": {"torch": "2.14"}}
        answer = {"backend": row, "environment": versions} if step.kind == "probe" else None
        crashed = step.kind == "doctor" or step.words == ("ort-cuda",)
        done = Done(step=step, code=-11 if crashed else 0, seconds=1.0, said="", answer=answer)
        found.append(replace(done, answer=None) if crashed else done)
    assert kinds[:3] == [("doctor", "doctor"), ("probe", "torch-cuda"), ("probe", "ort-cuda")]
    assert ("verify", "torch-cuda") in kinds
    assert ("bench", "ort-cuda") not in kinds


@pytest.mark.parametrize(
    ("codes", "planned_after"), [((0,), True), ((-1, 0), True), ((9, 9), False)]
)
def test_random_weights_take_the_place_of_a_training_that_failed(
    codes: tuple[int, ...], planned_after: bool
) -> None:
    found = list(FOUND)
    kinds = []
    left = list(codes)
    for step in steps(OPTIONS, found):
        kinds.append(step.kind)
        code = left.pop(0) if step.kind == "make" else 0
        found.append(Done(step=step, code=code, seconds=1.0, said=""))
        assert ("--random" in step.words) == (step.kind == "make" and kinds.count("make") == 2)
    assert kinds.count("make") == len(codes)
    assert ("bench" in kinds) == planned_after


def test_random_weights_are_made_at_once_where_they_are_asked_for() -> None:
    options = replace(OPTIONS, random_weights=True)
    made = told(list(steps(options, FOUND)), "make")
    assert [words[0] for words in made] == list(options.networks)
    assert all(words[-1] == "--random" for words in made)


def test_engines_are_tuned_for_every_batch_and_tf32_is_one_of_them() -> None:
    built = told(list(steps(OPTIONS, FOUND)), "build")
    assert [words[5] for words in built] == ["fp32", "int8", "tf32"]
    for words in built:
        assert profiles_of(words) == ["1:1:1", "8:8:8", "64:64:64"]
    (one, *_) = told(list(steps(replace(OPTIONS, batches=(8,)), FOUND)), "build")
    assert profiles_of(one) == ["1:1:1", "8:8:8"], "golden vectors are run one by one"


def profiles_of(words: tuple[str, ...]) -> list[str]:
    return [after for word, after in pairwise(words) if word == "--batch"]


def test_without_a_gpu_only_rtx_is_built_for_one_that_is_not_here() -> None:
    built = told(list(steps(replace(OPTIONS, device="cpu"), FOUND)), "build")
    assert [words[3] for words in built] == ["tensorrt-rtx"] * 2
    assert all("--compute-capability" in words for words in built)


def test_only_the_backends_asked_for() -> None:
    planned = list(steps(replace(OPTIONS, backends=("trt",)), FOUND))
    assert not told(planned, "verify")
    assert {words[0] for words in told(planned, "bench")} == {"trt"}


def test_a_backend_that_was_asked_for_and_does_not_run_is_told() -> None:
    asked = replace(OPTIONS, backends=("torch-cuda", "trt", "ort-trt"))
    assert unusable_backends(asked, FOUND) == {"ort-trt": "main tells of no such backend"}
    assert isinstance(FOUND[0].answer, dict)
    row = {"name": "ort-cuda", "usable": False, "detail": "no CUDA provider", "remedy": "get one"}
    main = replace(FOUND[0], answer={**FOUND[0].answer, "backends": [row]})
    assert unusable_backends(replace(asked, backends=("ort-cuda",)), (main, FOUND[1])) == {
        "ort-cuda": "no CUDA provider; get one"
    }
    assert unusable_backends(OPTIONS, FOUND) == {}, "nothing was asked for by name"


def test_engines_are_built_at_the_level_asked_for() -> None:
    def levels(level: int | None) -> set[str]:
        planned = list(steps(replace(OPTIONS, optimization_level=level), FOUND))
        words = [s.words for s in planned if s.kind == "build"]
        return {w for line in words for b, w in pairwise(line) if b == "--optimization-level"}

    assert levels(None) == set()
    assert levels(2) == {"2"}


def test_a_step_never_raises(tmp_path: Path) -> None:
    absent = Step(kind="bench", network="n", python=str(tmp_path / "python"), words=("bench",))
    assert (run(absent, 5).code, run(absent, 5).answer) == (-1, None)
    words = ("torch", "nowhere", "--batch", "1")
    asked = Step(kind="bench", network="n", python=sys.executable, words=words)
    done = run(asked, 60)
    assert done.code == 3
    assert "no bundle at nowhere" in done.said
    assert run(asked, 0.01).said == "ended after 0.01 s"


def test_a_step_that_is_ended_takes_its_children_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs on a GPU is often a process that the command itself started."""
    note = tmp_path / "pid"
    script = (
        "import subprocess, sys, pathlib, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    monkeypatch.setattr(machine_run, "_MAIN", script)
    monkeypatch.setattr(machine_run, "_COMMANDS", ("bench",))
    done = run(Step(kind="bench", network="n", python=sys.executable, words=()), 10)
    assert (done.code, done.said) == (-1, "ended after 10 s")
    assert is_gone(int(note.read_text()))


def test_what_was_measured_before_a_hang_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import time; print('a library says hello'); print('{not json'); "
        'print(\'{"rows": [{"batch": 1}], "key": 1}\'); '
        'print(\'{"rows": [{"batch": 64}], "key": 2}\', flush=True); '
        "import sys; print('batch 128\\n', file=sys.stderr, flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(machine_run, "_MAIN", script)
    monkeypatch.setattr(machine_run, "_COMMANDS", ("bench",))
    done = run(Step(kind="bench", network="n", python=sys.executable, words=()), 3)
    assert (done.code, done.said) == (-1, "ended after 3 s; last: batch 128")
    assert done.answer == {"rows": [{"batch": 1}, {"batch": 64}], "key": 1}


def test_answers_are_found_between_what_libraries_print() -> None:
    assert list(answers('warning: {}\n{\n  "a": 1\n}\nbye\n{"b": [2]}\n{"c": ')) == [
        {"a": 1}, {"b": [2]},
    ]  # fmt: skip
    assert joined([]) is None


def test_a_report_stays_small() -> None:
    kept = joined([{"rows": [{"samples_ns": list(range(9001)), "burst_ns": 5}]}])["rows"][0]
    assert kept["samples_ns"] == list(range(0, 9001, 5))
    assert kept["burst_ns"] == 5


def test_tf32_is_off_where_only_the_environment_can() -> None:
    step = Step(kind="bench", network="n", python="p", words=(), backend="ort-trt")
    assert environment_for(step) == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert environment_for(replace(step, backend="trt")) == {}


def test_an_engine_is_told_with_what_it_computes_in() -> None:
    layers = [
        {"name": name, "kind": kind, "tactic": "", "inputs": ["fp16"], "outputs": ["fp16"],
         "nodes": [node]}
        for name, kind, node in (("a", "conv", "node_conv2d"), ("b", "gemm", "node_linear"))
    ]  # fmt: skip
    notes = {"sha256": "0" * 64, "made_at": "2026-11-25T00:00:00+00:00", "seconds": 12.34,
             "source": "engine inspector", "layers": layers, "warnings": []}  # fmt: skip
    engine = {"precision": "fp16", "engine": {"path": "m.plan", "size_bytes": 2e6}, "notes": notes}
    assert gpu_check.engine_line(engine) == (
        "m.plan: 12.3 s, 2.0 MB; products in 2 × fp16 (engine inspector)"
    )
    notes["products"] = ["node_conv2d", "node_linear", "in_no_layer"]
    assert "2 × fp16, 1 of 3 not told (engine" in gpu_check.engine_line(engine)
    failed = {"precision": "fp8", "engine": None, "notes": None, "reason": "not on this GPU"}
    assert gpu_check.engine_line(failed) == "fp8 was not built: not on this GPU"


def test_it_runs_to_the_end_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "check.json"
    words = ["-o", str(path), "--device", "cpu", "--network", "tiny", "--backend", "ort-cpu"]
    words += ["--precision", "int8", "--batch", "2", "--seconds", "0.05", "--images", "8"]
    code = gpu_check.main([*words, "--work", str(tmp_path / "work")])
    out, said = capsys.readouterr()
    report = jsonio.load(Report, path)
    failed = [(d.step.words, d.said) for d in report.done if d.code]
    assert code == 0, failed
    assert {"verify", "bench", "build", "export", "make", "doctor", "limits"} == {
        done.step.kind for done in report.done
    }
    stored = path.read_text(encoding="utf-8")
    assert stored.count("\n") == 1, "compact: it has to travel"
    assert str(tmp_path) not in stored
    assert not machine_paths(stored)
    for text in ("model.int8.onnx", "model.fp32.onnx", "ort-cpu", "× int8", "at most"):
        assert text in out
    assert "bench tiny exit 0" in said


def test_the_script_runs_where_nothing_is_installed(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = Path(gpu_check.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, env=bare, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "--total-seconds" in done.stdout


@pytest.mark.parametrize(
    "words",
    [["--batch", "0"], ["--seconds", "-1"], ["--total-seconds", "0"], ["--images", "7"]],
)
def test_bad_input(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["-o", str(tmp_path / "x.json"), *words]) == 2
    assert "remedy:" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
