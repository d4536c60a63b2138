"""What a check of a machine runs in its children: weights, golden vectors, a part of a bundle."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from vgg_deploy import stored
from vgg_deploy.backends.ort import OrtCpu
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import Interrupted
from vgg_deploy.export import export
from vgg_deploy.manifest import Draft
from vgg_deploy.pipeline import machine_cells, machine_weights
from vgg_deploy.pipeline.golden import make_golden
from vgg_deploy.pipeline.machine_cells import part_of
from vgg_deploy.pipeline.machine_child import main as child
from vgg_deploy.pipeline.machine_weights import make, options_for
from vgg_deploy.results import VERIFY_FILE, VerifyReport
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.step import Trainer


@pytest.fixture
def exported(tiny_bundle: Bundle) -> Bundle:
    bundle, _, _ = export(tiny_bundle, "onnx")
    return make_golden(bundle)


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


def test_golden_vectors_need_no_torch_and_catch_a_wrong_file(
    exported: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["golden", "ort-cpu", str(exported.root), "--batch", "3"]
    assert child(words) == 0
    (row,) = rows_of(capsys)
    assert (row["verdict"], row["subject"]["artifact"]) == ("equivalent", "model.fp32.onnx")
    shift_a_bias(exported)
    assert child(words) == 7
    (row,) = rows_of(capsys)
    assert row["verdict"] == "different"
    assert "a logit is off by" in row["reason"]


def shift_a_bias(bundle: Bundle) -> None:
    artifact = bundle.find("onnx")
    assert artifact is not None
    model = onnx.load(bundle.path(artifact))
    bias = next(t for t in model.graph.initializer if t.name == "head.fc8.bias")
    bias.raw_data = (onnx.numpy_helper.to_array(bias) + np.float32(0.5)).tobytes()
    draft = Draft(
        format="onnx",
        precision="fp32",
        input=artifact.input,
        output=artifact.output,
        parent=artifact.parent,
        made_by={},
    )
    open_bundle(bundle.root).add(draft, lambda path: onnx.save(model, path))


def test_what_golden_vectors_say_is_what_bench_reads(
    exported: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(exported.root)
    assert child(["golden", "ort-cpu", root, "--batch", "1"]) == 0
    stored.load(VerifyReport, exported.root / VERIFY_FILE)
    capsys.readouterr()
    words = ["--batch", "1", "--batch", "2", "--seconds", "0.01"]
    child(["bench", "ort-cpu", root, *words])
    parts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["batch"] for part in parts for row in part["rows"]] == [1, 2], "a line each"
    marks = [mark for part in parts for row in part["rows"] for mark in row["marks"]]
    assert not [mark for mark in marks if "verif" in mark]


@pytest.mark.parametrize(("at", "value"), [(1, np.nan), (4, 9.0)])
def test_every_place_of_a_batch_is_looked_at(
    at: int, value: float, exported: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile has kernels of its own: what is right alone may be wrong in a batch of five."""
    asked = []
    real = machine_cells._largest_difference

    def spoiled(session: Any, *rest: Any) -> float | None:
        def run(batch: Any) -> Any:
            asked.append(len(batch))
            logits = session(batch)
            if len(batch) == 5:
                logits[at, 0] = value
            return logits

        return real(run, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(machine_cells, "_largest_difference", spoiled)
    report, error = machine_cells.golden("ort-cpu", exported.root, "", [5])
    assert {1, 5} <= set(asked)
    assert report.rows[0].verdict == "different"
    assert error is not None
    assert error.exit_code == 7


def test_nothing_judged_is_exit_10(
    exported: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vgg_deploy.backends.base import Missing

    monkeypatch.setattr(OrtCpu, "refuses", lambda self, artifact: Missing("not today", "wait"))
    assert child(["golden", "ort-cpu", str(exported.root), "--batch", "1"]) == 10
    assert "not today" in capsys.readouterr().err


def test_a_part_holds_what_is_opened_and_what_that_was_made_from(exported: Bundle) -> None:
    formats = [a.format for a in part_of(exported.root, "torch").artifacts]
    assert formats == ["checkpoint"]
    assert [a.format for a in part_of(exported.root, "ort-cpu").artifacts] == ["checkpoint", "onnx"]
    assert [a.format for a in part_of(exported.root, "ort-cpu", "fp16").artifacts] == ["checkpoint"]


def test_an_unknown_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert child(["make", "vgg17", str(tmp_path / "x")]) == 2
    assert "unknown network 'vgg17'" in capsys.readouterr().err


def test_a_backend_is_probed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert child(["probe", "ort-cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backend"]["usable"]
    assert "torch" in found["environment"]["versions"]


def test_on_the_sample_more_epochs_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_weights, "find_fashion_mnist", lambda: None)
    chosen = options_for("vgg11", "cuda")
    assert chosen is not None
    assert (chosen.epochs, chosen.lr, chosen.deterministic) == (8, None, True)
    assert options_for("vgg16", "cuda") is None, "it learns nothing from 5,000 images"
    monkeypatch.setattr(machine_weights, "find_fashion_mnist", lambda: Path("data"))
    assert options_for("vgg16", "cuda") == TrainOptions(epochs=2)
    assert options_for("vgg16", "cpu") is None


def test_a_training_near_chance_gives_random_weights_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str, folder: Path, options: TrainOptions) -> tuple[Bundle, float]:
        bundle = machine_weights._random(name, folder)
        return bundle, 0.1

    monkeypatch.setattr(machine_weights, "_trained", trained)
    first = make("tiny", tmp_path / "b", "cpu")
    assert first["weights"] == machine_weights.RANDOM
    assert first["test_accuracy"] == 0.1
    again = make("tiny", tmp_path / "other", "cpu", random=True)
    assert again["sha256"] == first["sha256"], "an empty disk gets the same bytes"
    before = (tmp_path / "b" / "manifest.json").stat().st_mtime_ns
    assert make("tiny", tmp_path / "b", "cpu")["sha256"] == first["sha256"]
    assert (tmp_path / "b" / "manifest.json").stat().st_mtime_ns == before


def test_a_trained_network_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TrainOptions(recipe="modern-bn", epochs=1, max_images=256, deterministic=True)
    tiny = machine_weights.NETWORKS["tiny"]
    monkeypatch.setitem(machine_weights.NETWORKS, "tiny", replace(tiny, sample=short))
    monkeypatch.setattr(machine_weights, "_CHANCE", 0.0)
    first = make("tiny", tmp_path / "b", "cpu")
    marker = tmp_path / "b" / "training" / "mine"
    marker.touch()
    assert make("tiny", tmp_path / "b", "cpu") == first
    assert marker.exists(), "trained again"
    assert first["weights"] == "trained"
    assert make("tiny", tmp_path / "c", "cpu")["sha256"] == first["sha256"]


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TrainOptions(recipe="modern-bn", epochs=1, max_images=256, deterministic=True)
    steps: list[int] = []
    whole = Trainer.average

    def stopped(self: Trainer, step: int) -> None:
        whole(self, step)
        steps.append(step)
        if len(steps) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "average", stopped)
    with pytest.raises(Interrupted):
        machine_weights._trained("tiny", tmp_path, short)
    bundle, _ = machine_weights._trained("tiny", tmp_path, short)
    assert steps == list(range(1, len(steps) + 1)), "begun afresh"
    assert bundle.problem(bundle.checkpoint) is None
