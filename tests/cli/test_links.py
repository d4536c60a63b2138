"""Links inside a bundle, which may come from elsewhere: nothing is written through one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE

VERIFY = ("verify", "-b", "ort-cpu", "--images", "8", "--data", "sample", "--no-accuracy")
BENCH = ("bench", "-b", "ort-cpu", "--batch", "1", "--seconds", "0.05", "--no-limits")
COMPARE = ("bench", "--compare", "ort-cpu", "--compare", "openvino", "--blocks", "5")
TRAIN = ("train", "--data", "sample", "--epochs", "1", "--replace", "--tensorboard")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with files of somebody else."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("verify.json", "metrics.jsonl", "job.json"):
        (folder / name).write_text("mine")
    return folder


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("words", [VERIFY, BENCH, COMPARE])
def test_results_are_not_written_through_a_link(
    words: tuple[str, ...],
    two_formats: Bundle,
    outside: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, link = held(outside), two_formats.root / "results"
    link.symlink_to(outside)
    command, *options = words
    assert main([command, str(two_formats.root), *options]) == 3
    said = capsys.readouterr().err
    assert f"{link} is a link: nothing of a bundle is written through one" in said
    assert "remove the link" in said
    assert held(outside) == before
    if command == "verify":
        assert main([command, str(two_formats.root), *options, "--no-store"]) == 0


@pytest.mark.parametrize("name", ["training", "training/checkpoints", "training/tensorboard"])
def test_no_training_writes_through_a_link(
    name: str, tiny_bundle: Bundle, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, link = held(outside), tiny_bundle.root / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    assert main([*TRAIN, "-o", str(tiny_bundle.root)]) == 3
    assert f"{link} is a link" in capsys.readouterr().err
    assert held(outside) == before


def test_a_lock_that_is_a_link_is_refused(
    tiny_bundle: Bundle, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, lock = held(outside), tiny_bundle.root / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(outside / "job.json")
    assert main(["export", str(tiny_bundle.root), "--format", "onnx"]) == 3
    assert "a link is where a file is expected" in capsys.readouterr().err
    assert held(outside) == before


def test_a_file_that_is_a_link_is_replaced(two_formats: Bundle, outside: Path) -> None:
    before, link = held(outside), two_formats.root / VERIFY_FILE
    link.parent.mkdir()
    link.symlink_to(outside / "verify.json")
    assert main([VERIFY[0], str(two_formats.root), *VERIFY[1:]]) == 0
    assert not link.is_symlink()
    assert held(outside) == before


def test_a_bundle_that_is_a_link_itself_is_used_as_ever(
    two_formats: Bundle, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(two_formats.root)
    for command, *options in (VERIFY, BENCH):
        assert main([command, str(link), *options]) == 0
    assert main(["export", str(link), "--format", "onnx"]) == 0
    assert link.is_symlink()
    assert (two_formats.root / BENCH_FILE).is_file()
