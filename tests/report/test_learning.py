"""Which epoch became the bundle is what training itself chose, and is said everywhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from tests.report.test_plots import texts
from vgg_deploy.bundle import Bundle
from vgg_deploy.report import training_pictures
from vgg_deploy.report.findings import gather
from vgg_deploy.report.learning import kept_epoch, kept_text, learning_plot, training_table
from vgg_deploy.report.sections import sections
from vgg_deploy.report.training_pictures import curves_png, drawn_names
from vgg_deploy.train.outcome import EpochRow, best_of

TEST = (0.81, 0.88, 0.88, 0.87)
HELD = (0.80, 0.79, 0.83, 0.83)
TEST_LOSS = (0.5, 0.4, 0.4, 0.3)  # of the equally good 2 and 3 neither is better
HELD_LOSS = (0.1, 0.6, 0.5, 0.4)


def metrics(held: bool) -> list[dict[str, object]]:
    return [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "train_accuracy": 0.8,
            "test_loss": TEST_LOSS[epoch - 1],
            "test_accuracy": test,
            **({"validation_loss": loss, "validation_accuracy": other} if held else {}),
        }
        for epoch, (test, other, loss) in enumerate(
            zip(TEST, HELD, HELD_LOSS, strict=True), start=1
        )
    ]


@pytest.mark.parametrize(
    ("held", "epoch", "said"),
    [
        (False, 2, "epoch 2 of 4, the best on the test images: test accuracy 88.00 %"),
        (
            True,
            4,
            "epoch 4 of 4, the best on the validation images: validation accuracy 83.00 %, "
            "test accuracy 87.00 %",
        ),
    ],
)
def test_it_is_the_epoch_that_training_chose(held: bool, epoch: int, said: str) -> None:
    rows = metrics(held)
    chosen = best_of(
        tuple(
            EpochRow(
                epoch=e, loss=1, train_accuracy=0.8, test_loss=TEST_LOSS[e - 1], test_accuracy=test,
                examples_per_second=1, seconds=1, lr=1,
                validation_loss=HELD_LOSS[e - 1] if held else None,
                validation_accuracy=other if held else None,
            )
            for e, (test, other) in enumerate(zip(TEST, HELD, strict=True), start=1)
        )
    )  # fmt: skip
    kept = kept_epoch(rows)
    assert kept is not None
    assert kept["epoch"] == chosen.epoch == epoch
    assert kept_text(rows) == said
    table = training_table(rows)
    assert [row.cells[0] for row in table.rows if row.status == "ok"] == [str(epoch)]
    assert said in table.note
    plot = learning_plot(rows)
    assert plot is not None
    assert plot.description.endswith(f"The bundle holds {said}.")


@pytest.mark.parametrize("rows", [[], [{"epoch": 1}], [{"epoch": 1, "test_accuracy": math.nan}]])
def test_without_accuracies_nothing_is_claimed(rows: list[dict[str, object]]) -> None:
    assert kept_epoch(rows) is None
    assert kept_text(rows) == ""
    assert training_table(rows).note == ""


def test_an_upright_line_stands_at_the_epoch_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(training_pictures, "_saved", lambda figure, _path: figures.append(figure))
    curves_png(tmp_path / "x.png", metrics(held=True))
    for axes in figures[0].axes:
        places = [np.unique(np.asarray(line.get_xdata())).tolist() for line in axes.lines]
        assert [4] in places
        assert all(tick == int(tick) and tick <= 4 for tick in axes.get_xticks())
    assert "epoch 4 of 4" in figures[0].get_suptitle()
    assert "label smoothing" in figures[0].get_suptitle()


@pytest.mark.parametrize(("recorded", "told"), [("4", 4), ("3", 3), ("", 3)])
def test_a_report_marks_the_epoch_on_record(sample: Bundle, recorded: str, told: int) -> None:
    """Where none is, an earlier version kept the first of equally good ones."""
    folder = sample.root / "training"
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in metrics(held=True)]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    made_by = {**sample.checkpoint.made_by, **({"best_epoch": recorded} if recorded else {})}
    others = [a for a in sample.artifacts if a.format != "checkpoint"]
    artifacts = (replace(sample.checkpoint, made_by=made_by), *others)
    marked = gather(replace(sample, manifest=replace(sample.manifest, artifacts=artifacts)))
    assert kept_text(marked.metrics).startswith(f"epoch {told} of 4")


@pytest.mark.parametrize(
    ("held", "said"), [("0", ". Test"), ("unknown", ". Test"), ("600", ", 600 more held out")]
)
def test_the_report_says_what_it_was_trained_on(sample: Bundle, held: str, said: str) -> None:
    made_by = {"train_images": "5400", "validation_images": held, "dataset": "shoes"}
    checkpoint = replace(sample.checkpoint, made_by={**sample.checkpoint.made_by, **made_by})
    others = [a for a in sample.artifacts if a.format != "checkpoint"]
    manifest = replace(sample.manifest, artifacts=(checkpoint, *others))
    findings = replace(gather(sample), bundle=replace(sample, manifest=manifest))
    (training,) = [s for s in sections(findings) if s.name == "training"]
    assert training.lead.startswith(f"Trained on 5,400 images of shoes{said}")


def test_names_that_no_font_has_are_drawn_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans"])
    assert drawn_names(["猫", "Mütze", "ear ring", "🐟 狗"]) == [
        "class 0", "Mütze", "ear ring", "class 3"
    ]  # fmt: skip


def test_an_installed_font_with_those_signs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """DejaVu stands in for one: this machine need not have any."""
    monkeypatch.setattr(training_pictures, "_MORE_FONTS", ("Nowhere", "DejaVu Serif"))
    assert training_pictures._families() == ["DejaVu Sans", "DejaVu Serif"]


def test_curves_of_one_epoch_have_no_fractions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(training_pictures, "_saved", lambda figure, _path: figures.append(figure))
    curves_png(tmp_path / "x.png", metrics(held=False)[:1])
    assert list(figures[0].axes[0].get_xticks()) == [1]
    plot = learning_plot(metrics(held=False)[:1])
    assert plot is not None
    assert "1" in texts(plot)
