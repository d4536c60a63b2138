"""Results that are printed are those that are stored, and survive a bundle that takes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, ResourceLimit
from vgg_deploy.files import sha256_of
from vgg_deploy.pipeline import yardstick
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport

VERIFY = ("-b", "ort-cpu", "--images", "8", "--data", "sample", "--no-accuracy", "--json")
BENCH = ("-b", "ort-cpu", "--batch", "1", "--seconds", "0.05", "--no-limits", "--json")


def run(command: str, bundle: Bundle, *words: str) -> int:
    return main([command, str(bundle.root), *words])


def files(root: Path) -> dict[Path, str]:
    return {path: sha256_of(path) for path in root.rglob("*") if path.is_file()}


def full(path: Path, _report: object) -> None:
    raise ResourceLimit(f"could not write {path}: No space left on device", "free some")


def test_what_is_printed_is_what_diff_and_others_read(
    two_formats: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", two_formats, *BENCH) == 0
    printed = tmp_path / "printed.json"
    printed.write_text(capsys.readouterr().out)
    told = json.loads(printed.read_text())
    assert [mark for mark in told["rows"][0]["marks"] if mark.startswith("not verified")]
    assert stored.load(BenchReport, printed).rows
    assert main(["diff", str(printed), str(two_formats.root / BENCH_FILE)]) == 0
    capsys.readouterr()
    assert run("verify", two_formats, *VERIFY) == 0
    kept = json.loads((two_formats.root / VERIFY_FILE).read_text())
    assert json.loads(capsys.readouterr().out) == kept


def test_a_comparison_is_printed_with_the_digest_it_is_stored_with(
    two_formats: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("--compare", "ort-cpu", "--compare", "openvino", "--blocks", "5")
    assert run("bench", two_formats, *names, "--json") == 0
    told = json.loads(capsys.readouterr().out)["report"]
    assert told == json.loads((two_formats.root / "results/compare.json").read_text())


def test_no_digest_is_told_from_one_that_does_not_fit(
    two_formats: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", two_formats, *BENCH) == 0
    path = two_formats.root / BENCH_FILE
    payload = json.loads(path.read_text())
    path.write_text(json.dumps({**payload, "made_at": "2000-01-01T00:00:00+00:00"}))
    capsys.readouterr()
    assert main(["diff", str(path), str(path)]) == 4
    assert "its digest does not fit" in capsys.readouterr().err
    del payload["digest"]
    path.write_text(json.dumps(payload))
    assert main(["diff", str(path), str(path)]) == 4
    assert "has no digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("verify", VERIFY),
        ("bench", BENCH),
        ("bench", ("--compare", "ort-cpu", "--compare", "openvino", "--blocks", "5", "--json")),
    ],
)
def test_without_storing_nothing_is_written(
    command: str, words: tuple[str, ...], two_formats: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(two_formats.root)
    assert run(command, two_formats, *words, "--no-store") == 0
    assert json.loads(capsys.readouterr().out)
    assert files(two_formats.root) == before
    assert run(command, two_formats, *words) == 0
    assert files(two_formats.root) != before


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        ("verify", VERIFY, 6),
        ("verify", (*VERIFY, "--fail-if", "cosine>0"), 7),
        ("bench", BENCH, 6),
        ("bench", (*BENCH, "--fail-if", "file_mb<9999"), 1),
    ],
)
def test_results_that_cannot_be_stored_are_shown_and_the_verdict_comes_first(
    command: str,
    words: tuple[str, ...],
    code: int,
    two_formats: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stored, "save", full)
    assert run(command, two_formats, *words) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["rows"]
    assert "No space left on device" in said.err
    assert ("--no-store" in said.err) == (code == 6)


@pytest.mark.parametrize(("command", "words"), [("verify", VERIFY), ("bench", BENCH)])
def test_a_bundle_that_takes_no_results_is_refused_before_the_work(
    command: str,
    words: tuple[str, ...],
    two_formats: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(path: Path) -> None:
        raise RefusedInput(f"could not write {path}: Read-only file system", "choose another")

    monkeypatch.setattr(stored, "staged", refused)
    assert run(command, two_formats, *words) == 3
    said = capsys.readouterr()
    assert list(json.loads(said.out)) == ["error"]
    assert "--no-store" in said.err
    assert run(command, two_formats, *words, "--no-store") == 0


def test_a_reference_that_cannot_be_kept_is_a_remark(
    two_formats: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(path: Path, _key: str, _arrays: object) -> None:
        full(path, None)

    monkeypatch.setattr(yardstick, "_keep", failing)
    assert run("verify", two_formats, *VERIFY) == 0
    assert "the reference is not kept" in capsys.readouterr().err
