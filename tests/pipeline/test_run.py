"""The main job's order and its end: what is not equivalent is not timed, and its stage failed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rows import passed, report, row
from vgg_deploy import stored
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import ResourceLimit, VggDeployError
from vgg_deploy.pipeline import run
from vgg_deploy.report.html import REPORT_FILE
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport, VerifyReport

GOOD = row("ort-cpu", 5)
BROKEN = replace(GOOD, status="failed", reason="not enough memory", samples_ns=())


@pytest.fixture
def stages(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Every stage but the report leaves the bundle as it is."""
    for name in ("train_bundle", "_exported", "build_here"):
        monkeypatch.setattr(run, name, lambda *_given, **_options: tiny_bundle)
    plant(tiny_bundle, monkeypatch)
    return tiny_bundle


def plant(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    verify: VerifyReport | None = None,
    bench: BenchReport | None = None,
) -> None:
    """What verify and bench find."""
    verified, timed = verify or passed([GOOD]), bench or report([GOOD])

    def verify_bundle(*_given: object, **_options: object) -> VerifyReport:
        stored.save(bundle.root / VERIFY_FILE, verified)
        return verified

    def bench_bundle(*_given: object, **_options: object) -> BenchReport:
        stored.save(bundle.root / BENCH_FILE, timed)
        return timed

    monkeypatch.setattr(run, "verify_bundle", verify_bundle)
    monkeypatch.setattr(run, "bench_bundle", bench_bundle)


def marks(bundle: Bundle) -> dict[str, str]:
    """By stage, the sign of the log."""
    lines = (bundle.root / run.LOG_FILE).read_text(encoding="utf-8").splitlines()
    drawn = [line.split() for line in lines if line.startswith(("├─", "└─"))]
    return {words[2].rstrip(","): words[1] for words in drawn}


def test_what_is_not_equivalent_is_not_timed(
    stages: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = passed([GOOD]).rows
    wrong = replace(passed([]), rows=(replace(row, verdict="different", reason="rel_l2"),))
    plant(stages, monkeypatch, verify=wrong)
    outcome = run.run_preset("quick", stages.root)
    assert outcome.timed is None
    assert not (stages.root / BENCH_FILE).exists()
    assert outcome.page.is_file()
    with pytest.raises(VggDeployError, match="1 of 1 not equivalent"):
        run.require_good(outcome)
    assert marks(stages)["verify"] == "✗"
    assert "bench" not in marks(stages)
    assert marks(stages)["report"] == "✓"
    assert main(["run", "--preset", "quick", "-o", str(stages.root)]) == 7


def test_cells_that_failed_are_a_stage_that_failed(
    stages: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(stages, monkeypatch, bench=report([BROKEN]))
    outcome = run.run_preset("quick", stages.root)
    assert (marks(stages)["verify"], marks(stages)["bench"]) == ("✓", "✗")
    log = (stages.root / run.LOG_FILE).read_text(encoding="utf-8")
    assert "1 of 1 cells failed; first: ort-cpu" in log
    assert outcome.page.is_file()
    assert main(["run", "--preset", "quick", "-o", str(stages.root)]) == 8


def test_stages_that_went_well(stages: Bundle) -> None:
    run.require_good(run.run_preset("quick", stages.root))
    assert set(marks(stages).values()) == {"✓"}
    assert list(marks(stages)) == ["train", "export", "build", "verify", "bench", "report"]


def test_an_error_within_a_stage_still_ends_the_job(
    stages: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: object, **_options: object) -> VerifyReport:
        raise VggDeployError("a file was changed", "restore it")

    monkeypatch.setattr(run, "verify_bundle", broken)
    with pytest.raises(VggDeployError, match="a file was changed"):
        run.run_preset("quick", stages.root)
    assert not (stages.root / REPORT_FILE).exists()

    def full(*_given: object) -> None:
        raise ResourceLimit("could not write the log", "free some disk space")

    monkeypatch.setattr(run, "write_text", full)
    with pytest.raises(VggDeployError, match="a file was changed"):
        run.run_preset("quick", stages.root)


def test_the_log_of_a_folder_whose_name_is_not_utf_8(
    stages: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(stages.root, folder)
    monkeypatch.setattr(run, "build_here", lambda *_given: open_bundle(folder))
    plant(open_bundle(folder), monkeypatch)
    run.run_preset("quick", folder)
    assert "caf\\udce9" in (folder / run.LOG_FILE).read_text(encoding="utf-8")


def test_the_log_is_not_written_through_a_link(stages: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "run.log").write_text("mine")
    (stages.root / "results").symlink_to(outside)
    assert main(["run", "--preset", "quick", "-o", str(stages.root)]) == 3
    assert [path.name for path in outside.iterdir()] == ["run.log"]
    assert (outside / "run.log").read_text() == "mine"
