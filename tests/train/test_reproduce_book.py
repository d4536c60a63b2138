from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from scripts import reproduce_book
from scripts.reproduce_book import NOTES, BookTable, Cell, main
from vgg_deploy import jsonio


def words(folder: Path, *more: str) -> list[str]:
    small = ["--cell", "vgg11@96", "--data", "sample", "--epochs", "1", "--max-images", "64"]
    small += ["--width", "0.02", "--device", "cpu"]
    return [*small, "--folder", str(folder / "runs"), "-o", str(folder / "book.json"), *more]


@pytest.mark.slow
def test_cell_by_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--recipe", "book", "--max-minutes", "1e-9")) == 6
    assert "--resume" in capsys.readouterr().err
    assert main(words(tmp_path, "--recipe", "book")) == 0
    assert main(words(tmp_path)) == 0
    found = jsonio.load(BookTable, tmp_path / "book.json")
    assert [(c.cell, c.recipe) for c in found.cells] == [
        ("vgg11@96", "book"),
        ("vgg11@96", "modern"),
    ]
    assert found.cells[0].notes == NOTES["vgg11@96"]
    monkeypatch.setattr(reproduce_book, "run_cell", None)  # nothing is run again
    capsys.readouterr()
    assert main(words(tmp_path)) == 0
    assert "vgg11@96 modern: loss" in capsys.readouterr().out


def test_a_trial_is_not_the_cell_and_stays_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_cell(name: str, recipe: str, options: argparse.Namespace) -> Cell:
        ran.append(reproduce_book.folder_name(name, recipe, options))
        made_by = {"seed": str(options.seed)}
        if options.max_images:
            made_by["max_images"] = str(options.max_images)
        if options.validation:
            made_by["validation"] = str(options.validation)
        if options.ema:
            made_by["ema"] = str(options.ema)
        return Cell(
            cell=name,
            recipe=recipe,
            ours=NOTES[name],
            best_test_accuracy=0.9,
            notes=NOTES[name],
            dataset=options.data,
            train_images=1,
            minutes=1.0,
            made_by=made_by,
        )

    monkeypatch.setattr(reproduce_book, "run_cell", run_cell)
    output = tmp_path / "book.json"
    plain = ["--cell", "vgg11@96", "--recipe", "book", "-o", str(output)]
    others: tuple[list[str], ...] = (
        ["--max-images", "64"],
        ["--data", "sample"],
        ["--validation", "0.1"],
        ["--ema", "0.999"],
        ["--seed", "1"],
        [],
    )
    for more in others * 2:
        assert main([*plain, *more]) == 0
    assert ran == [
        "vgg11-96-book-max_images-64",
        "vgg11-96-book-data-sample",
        "vgg11-96-book-validation-0.1",
        "vgg11-96-book-ema-0.999",
        "vgg11-96-book-seed-1",
        "vgg11-96-book",
    ]
    before = output.read_bytes()
    assert len(jsonio.load(BookTable, output).cells) == 6
    assert main([*plain, "--epochs", "3"]) == 2
    assert output.read_bytes() == before
