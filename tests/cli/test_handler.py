"""Every way a command can end: an exit code, one line of cause, one of remedy."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from vgg_deploy import bundle
from vgg_deploy.cli import handler, main

TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "32", "--fc-width", "16"]


def ends_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of a command whose work ends with ``error``."""

    def fails(root: Path) -> None:
        raise error

    monkeypatch.setattr(bundle, "open_bundle", fails)
    return main(["inspect", "somewhere", *words])


@pytest.mark.parametrize(
    ("error", "code", "cause", "remedy"),
    [
        (KeyError("shape"), 1, "internal error: KeyError: 'shape'", "this is a bug"),
        (ValueError("one\ntwo"), 1, "internal error: ValueError: one", "this is a bug"),
        (AssertionError(), 1, "internal error: AssertionError:", "this is a bug"),
        (MemoryError(), 6, "not enough memory", "use a smaller --batch"),
        (RuntimeError("std::bad_alloc"), 6, "not enough memory", "use a smaller --batch"),
        (OSError(), 3, "could not go on: OSError", "check the path, the disk and its rights"),
        (OSError("the cable"), 3, "could not go on: the cable", "check the path, the disk"),
        (
            OSError(errno.EIO, "Input/output error", "/mnt/x"),
            3,
            "could not use /mnt/x: Input/output error",
            "check the path, the disk",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            6,
            "could not go on: No space left on device",
            "free some disk space",
        ),
        (KeyboardInterrupt(), 130, "interrupted", "what was finished before is kept"),
    ],
    ids=repr,
)
def test_whatever_is_raised_becomes_a_code_and_two_lines(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    cause: str,
    remedy: str,
) -> None:
    assert ends_with(error, monkeypatch) == code
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith(f"vgg-deploy: error: {cause}")
    assert second.startswith(f"  remedy: {remedy}")
    assert not out


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["train"], "run the command again, with --resume if its training had begun"),
        (["train", "--resume"], "run the command again"),
        (["bench"], "run the command again"),
    ],
)
def test_how_to_go_on_after_a_second_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    remedy: str,
) -> None:
    """train refuses to drop a checkpoint: the same words alone would not help."""

    def typed(_words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(handler, "_invoke", typed)
    assert main(words) == 130
    assert capsys.readouterr().err.endswith(f"is kept; {remedy}\n")


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "nothing-here", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
    assert ends_with(KeyError("shape"), monkeypatch, "--debug") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "vgg-deploy: error: internal error: KeyError: 'shape'" in said


def test_a_training_that_diverges_is_exit_9(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    words = ["train", *TINY, "--recipe", "book", "--lr", "1e38", "--epochs", "2"]
    assert main([*words, "--data", "sample", "-o", str(out)]) == 9
    *_, cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith("vgg-deploy: error: the ")
    assert " became " in cause
    assert remedy.startswith("  remedy: lower --lr (it was 1e+38)")
    assert not (out / "manifest.json").exists()
