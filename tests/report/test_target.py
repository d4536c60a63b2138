"""Where a report may go, and which kind it is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.failing import failure
from tests.report.test_reproduce import draft
from vgg_deploy.artifact import Target
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.report.target import Kind, is_stdout, kind_for, kind_of


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


@pytest.mark.parametrize("kind", ["html", "md", "json"])
def test_a_report_on_stdout_is_nothing_but_the_report(
    sample: Bundle, tmp_path: Path, kind: str
) -> None:
    """In UTF-8, as the file, in a terminal of another encoding, too."""
    words = ["report", str(sample.root), "-f", kind, "-o"]
    folder = tmp_path / "here"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "vgg_deploy", *words, "-"],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert main([*words, str(tmp_path / "file")]) == 0
    assert done.stdout == (tmp_path / "file").read_bytes()
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("name", "stands"), [("-", True), ("/dev/stdout", True), ("./-x", False)])
def test_names_of_stdout(name: str, stands: bool) -> None:
    """Not tried with the device itself: where this is wrong, its node would be replaced."""
    assert is_stdout(Path(name)) == stands
    assert not is_stdout(None)


def test_stdout_takes_one_document(sample: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = failure(["report", str(sample.root), "--json", "-o", "-"], capsys)
    assert code == UsageError.exit_code
    assert "--json and -o - both need stdout" in said


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_the_report(sample: Bundle, tmp_path: Path, there: bool) -> None:
    link, real = tmp_path / "latest.json", tmp_path / "kept" / "real.json"
    real.parent.mkdir()
    if there:
        real.write_text("old")
    link.symlink_to(Path("kept") / "real.json")
    assert main(["report", str(sample.root), "-o", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(real.read_text(encoding="utf-8"))
    assert [path.name for path in real.parent.iterdir()] == ["real.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_refused_and_stays(
    sample: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], linked: bool
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    name = link if linked else pipe
    code, said = failure(["report", str(sample.root), "-o", str(name)], capsys)
    assert code == RefusedInput.exit_code
    assert f"{name} is a device, a pipe or a socket" in said
    assert pipe.is_fifo()
    assert link.is_symlink()


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
