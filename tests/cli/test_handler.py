"""Every way a command can end: an exit code, one line of cause, one of remedy."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from vgg_deploy import bundle
from vgg_deploy.cli import handler, main
from vgg_deploy.cli.app import app
from vgg_deploy.cli.console import print_json
from vgg_deploy.errors import DigestMismatch, NotEquivalent, RefusedInput, UsageError

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
        (KeyError("shape"), 70, "internal error: KeyError: 'shape'", "this is a bug"),
        (ValueError("one\ntwo"), 70, "internal error: ValueError: one", "this is a bug"),
        (AssertionError(), 70, "internal error: AssertionError:", "this is a bug"),
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
        (["--debug", "train"], "run the command again, with --resume if its training had begun"),
        (["inspect", "train"], "run the command again"),
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


def test_train_without_the_words_it_was_called_with(tmp_path: Path) -> None:
    """As an app that holds ours calls it."""
    with pytest.raises(UsageError, match="save-every -1"):
        app(["train", "--save-every", "-1", "-o", str(tmp_path / "b")], standalone_mode=False)


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (KeyError("shape"), 70, "internal error: KeyError: 'shape'"),
        (RefusedInput("no bundle", "make one"), 3, "no bundle"),
        (DigestMismatch("model.onnx was changed", "restore it"), 4, "model.onnx was changed"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_with_json_an_error_is_a_document_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    cause: str,
) -> None:
    assert ends_with(error, monkeypatch, "--json") == code
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    first, second = err.splitlines()
    assert (told["exit_code"], told["cause"]) == (code, cause)
    assert first == f"vgg-deploy: error: {cause}"
    assert second == f"  remedy: {told['remedy']}"


def test_with_json_a_usage_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify", "--json"], ["verify", "b", "--jsn", "--json"], ["summary", "x"]):
        assert main([*words, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_results_on_stdout_are_followed_by_no_other_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(_words: list[str]) -> int:
        print_json({"rows": []})
        raise NotEquivalent("1 of 1 not equivalent", "see the table")

    with monkeypatch.context() as patch:
        patch.setattr(handler, "_invoke", verify)
        assert handler.run(["verify", "b", "--json"]) == 7
    assert json.loads(capsys.readouterr().out) == {"rows": []}
    assert main(["inspect", "nothing-here", "--json"]) == 3  # the next command prints its own
    assert "error" in json.loads(capsys.readouterr().out)


def test_of_several_processes_one_prints_the_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    printed = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert ends_with(KeyError("shape"), monkeypatch, "--json") == 70
        printed.append(bool(capsys.readouterr().out))
    assert printed == [True, False]


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "nothing-here", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
    assert ends_with(KeyError("shape"), monkeypatch, "--debug") == 70
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
