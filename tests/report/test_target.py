"""Where a report may go, and which kind it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.cli.test_commands import failure
from tests.report.test_reproduce import draft
from vgg_deploy.artifact import Target
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import UsageError
from vgg_deploy.report.target import Kind, kind_for, kind_of


def digests(root: Path) -> dict[Path, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "model.fp32.onnx",
        "results/bench.json",
        "results/new.json",
        "training/metrics.jsonl",
        "golden/index.json",
        "golden",
        "results/../manifest.json",
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_the_bundles_own_files_are_not_overwritten(
    sample: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, linked: bool
) -> None:
    root = sample.root
    if linked:
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    before = digests(sample.root)
    code, said = failure(["report", str(sample.root), "-f", "json", "-o", str(root / name)], capsys)
    assert code == UsageError.exit_code
    assert "belongs to the bundle" in said
    assert digests(sample.root) == before


def test_what_describes_an_engine_is_not_overwritten(
    sample: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx = Target(
        flavour="tensorrt_rtx", version="1.7", compute_capability="8.9", batches=((1, 8, 64),)
    )
    sample, engine = sample.add(draft("engine", "fp32", rtx), lambda path: path.touch())
    notes = sample.root / f"{engine.path}.json"
    code, said = failure(["report", str(sample.root), "-o", str(notes)], capsys)
    assert code == UsageError.exit_code
    assert "belongs to the bundle" in said
    assert not notes.exists()


@pytest.mark.parametrize("name", ["report.json", "mine.json", "results.json", "../manifest.json"])
def test_other_files_are_written(sample: Bundle, name: str) -> None:
    target = sample.root / name
    assert main(["report", str(sample.root), "-o", str(target)]) == 0
    assert target.read_text(encoding="utf-8").startswith("{")


@pytest.mark.parametrize(
    ("asked", "name", "kind"),
    [
        (None, None, "html"),
        (None, "a.md", "md"),
        (None, "a.MARKDOWN", "md"),
        (None, "a.json", "json"),
        (None, "a.htm", "html"),
        (None, "a.txt", "html"),
        ("md", "a.txt", "md"),
        ("md", "a", "md"),
        ("json", "a.json", "json"),
        ("json", None, "json"),
    ],
)
def test_the_name_says_the_kind(asked: str | None, name: str | None, kind: Kind) -> None:
    assert kind_for(asked, Path(name) if name else None) == kind


@pytest.mark.parametrize(("asked", "name"), [("html", "a.md"), ("md", "a.json"), ("json", "a.htm")])
def test_a_contradiction_is_refused(asked: str, name: str) -> None:
    with pytest.raises(UsageError, match="contradicts"):
        kind_for(asked, Path(name))


def test_an_unknown_kind_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown format"):
        kind_of("pdf")
