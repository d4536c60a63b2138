from __future__ import annotations

from pathlib import Path

import pytest

from scripts import reproduce_book
from scripts.reproduce_book import NOTES, BookTable, main
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
