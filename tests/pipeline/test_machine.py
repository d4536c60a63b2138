"""The check of a machine: what is run, in which Python, what survives, and once for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts import gpu_check
from vgg_deploy import jsonio
from vgg_deploy.pipeline import machine
from vgg_deploy.pipeline.machine import Report, run
from vgg_deploy.pipeline.machine_steps import Done, Options, Step, steps

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
    answer = {"backends": rows, "environment": {"versions": versions}}
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
    (words,) = told(planned, "golden")
    assert words == ("trt", str(Path(OPTIONS.work, "tiny"))), "no torch there, so no verify"
    (words,) = told(planned, "verify")
    assert words[:4] == ("verify", str(Path(OPTIONS.work, "tiny")), "-b", "torch-cuda")
    timed = {(s.python, s.words[3], s.words[5]) for s in planned if s.kind == "bench"}
    assert timed == {
        (python, name, size)
        for python, name in (("main", "torch-cuda"), ("other", "trt"))
        for size in ("1", "8", "64")
    }, "a backend that is not usable is not timed"


def test_a_network_is_trained_where_that_takes_minutes() -> None:
    for device, network, first in (
        ("cuda", "vgg16", "train"),
        ("cpu", "vgg16", "vgg16"),
        ("cpu", "vgg11", "train"),
    ):
        options = replace(OPTIONS, device=device, networks=(network,))  # type: ignore[arg-type]
        (words,) = told(list(steps(options, FOUND)), "make")
        assert words[0] == first


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
    assert {words[3] for words in told(planned, "bench")} == {"trt"}


def test_a_step_never_raises(tmp_path: Path) -> None:
    import sys

    absent = Step(kind="bench", network="n", python=str(tmp_path / "python"), words=("bench",))
    assert (run(absent, 5).code, run(absent, 5).answer) == (-1, None)
    asked = Step(kind="bench", network="n", python=sys.executable, words=("bench", "nowhere"))
    done = run(asked, 60)
    assert done.code == 3
    assert "no bundle at nowhere" in done.said
    assert run(asked, 0.01).said == "ended after 0.01 s"


def test_tf32_is_off_where_only_the_environment_can() -> None:
    step = Step(kind="bench", network="n", python="p", words=("bench", "b", "-b", "ort-trt"))
    assert machine._environment_for(step) == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert machine._environment_for(replace(step, words=("bench", "b", "-b", "trt"))) == {}


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
        "m.plan: 12.3 s, 2.0 MB; 2 products in fp16 (engine inspector)"
    )
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
    assert {"verify", "bench", "build", "export", "make", "doctor"} == {
        done.step.kind for done in report.done
    }
    for text in ("model.int8.onnx", "model.fp32.onnx", "ort-cpu", "products in int8"):
        assert text in out
    assert "bench tiny exit 0" in said


@pytest.mark.parametrize("words", [["--batch", "0"], ["--seconds", "-1"], ["--total-seconds", "0"]])
def test_bad_input(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["-o", str(tmp_path / "x.json"), *words]) == 2
    assert "remedy:" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_golden_vectors_need_no_torch_and_catch_a_wrong_file(
    tmp_path: Path, tiny_bundle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    import onnx

    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.export import export
    from vgg_deploy.pipeline.golden import make_golden
    from vgg_deploy.pipeline.machine_child import main as child

    bundle, artifact, _ = export(tiny_bundle, "onnx")
    make_golden(bundle)
    root = str(bundle.root)
    assert child(["golden", "ort-cpu", root]) == 0
    assert json.loads(capsys.readouterr().out)["model.fp32.onnx"].startswith("within")
    model = onnx.load(bundle.path(artifact))
    bias = next(t for t in model.graph.initializer if t.name == "head.fc8.bias")
    wrong = onnx.numpy_helper.to_array(bias) + np.float32(0.5)
    bias.raw_data = wrong.astype(np.float32).tobytes()
    rewrite: Callable[[Path], None] = lambda path: onnx.save(model, path)  # noqa: E731
    from vgg_deploy.manifest import Draft

    draft = Draft(
        format="onnx",
        precision="fp32",
        input=artifact.input,
        output=artifact.output,
        parent=artifact.parent,
        made_by={},
    )
    open_bundle(bundle.root).add(draft, rewrite)
    assert child(["golden", "ort-cpu", root]) == 7
    assert json.loads(capsys.readouterr().out)["model.fp32.onnx"].startswith("beyond")


def test_an_unknown_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vgg_deploy.pipeline.machine_child import main as child

    assert child(["make", "vgg17", str(tmp_path / "x")]) == 2
    assert "unknown network 'vgg17'" in capsys.readouterr().err
