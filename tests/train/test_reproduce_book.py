from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scripts import reproduce_book
from scripts.reproduce_book import (
    NOTES,
    BookTable,
    Cell,
    folder_name,
    has_recipe,
    is_of,
    main,
    parse,
)
from vgg_deploy import environment, jsonio
from vgg_deploy.pipeline.claim import held
from vgg_deploy.train.recipes import RECIPES


def words(folder: Path, *more: str) -> list[str]:
    small = ["--cell", "vgg11@96", "--data", "sample", "--epochs", "1", "--max-images", "64"]
    small += ["--width", "0.02", "--device", "cpu"]
    return [*small, "--folder", str(folder / "runs"), "-o", str(folder / "book.json"), *more]


@pytest.mark.slow
def test_cell_by_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--recipe", "book", "--max-minutes", "1e-9")) == 6
    assert "run it again" in capsys.readouterr().err
    assert main(words(tmp_path, "--recipe", "book")) == 0
    assert main(words(tmp_path)) == 0
    found = jsonio.load(BookTable, tmp_path / "book.json")
    assert [(c.cell, c.recipe) for c in found.cells] == [
        ("vgg11@96", "book"),
        ("vgg11@96", "modern"),
    ]
    assert found.cells[0].notes == NOTES["vgg11@96"]
    assert found.cells[0].environment == environment.capture()
    monkeypatch.setattr(reproduce_book, "run_cell", None)  # nothing is run again
    capsys.readouterr()
    assert main(words(tmp_path)) == 0
    assert "vgg11@96 modern: loss" in capsys.readouterr().out


def settings() -> dict[str, str]:
    """What a run of the book's recipe says of it."""
    book = {k: str(v) for k, v in asdict(RECIPES["book"]).items() if k != "name"}
    return {k if k in ("lr", "batch", "dropout") else f"recipe_{k}": v for k, v in book.items()}


def a_cell(seed: int, device: str, made_on: environment.Environment | None) -> Cell:
    return Cell(
        cell="vgg11@96",
        recipe="book",
        ours=NOTES["vgg11@96"],
        best_test_accuracy=0.9,
        notes=NOTES["vgg11@96"],
        dataset="fashion-mnist",
        train_images=1,
        minutes=1.0,
        made_by={"seed": str(seed), "device": device, **settings()},
        environment=made_on,
    )


def test_every_cell_keeps_where_it_was_made_and_others_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls write to one file, hours after they had read it."""
    here = environment.capture()
    there = replace(here, cpu="another")
    output = tmp_path / "book.json"
    plain = ["--cell", "vgg11@96", "--recipe", "book", "-o", str(output)]

    def run_cell(_name: str, _recipe: str, options: argparse.Namespace) -> Cell:
        if options.seed == 1:  # meanwhile
            assert main([*plain, "--seed", "2"]) == 0
        return a_cell(options.seed, "cpu", here)

    monkeypatch.setattr(reproduce_book, "run_cell", run_cell)
    old = BookTable(
        what="", made_at="", width=0.25, epochs=10, cells=(a_cell(0, "cpu", None),),
        environment=there,
    )  # fmt: skip
    jsonio.save(output, old)
    assert main([*plain, "--seed", "1"]) == 0
    cells = jsonio.load(BookTable, output).cells
    assert [c.made_by["seed"] for c in cells] == ["0", "1", "2"]
    assert [c.environment for c in cells] == [there, here, here]


def test_another_device_is_another_cell() -> None:
    cell = a_cell(0, "cpu", None)
    assert [is_of(cell, parse(["--device", d])) for d in ("auto", "cpu", "cuda")] == [
        True,
        True,
        False,
    ]


def test_one_call_at_a_time_trains_a_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = words(tmp_path, "--recipe", "book")
    folder = tmp_path / "runs" / folder_name("vgg11@96", "book", parse(asked))
    with held(folder):
        assert main(asked) == 3
    assert "another training is writing to" in capsys.readouterr().err


def test_a_trial_is_not_the_cell_and_stays_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_cell(name: str, recipe: str, options: argparse.Namespace) -> Cell:
        ran.append(reproduce_book.folder_name(name, recipe, options))
        made_by = {"seed": str(options.seed), **settings()}
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


def test_a_cell_of_another_recipe_is_run_again() -> None:
    stored = jsonio.load(BookTable, Path(__file__).parents[2] / "docs/results/book.json").cells
    book = next(cell for cell in stored if cell.recipe == "book")
    assert "recipe_standardise" not in book.made_by, "older than the setting"
    assert has_recipe(book)
    for name, value in (("lr", "0.1"), ("recipe_flip", "True"), ("dropout", "0.4")):
        assert not has_recipe(replace(book, made_by={**book.made_by, name: value}))
