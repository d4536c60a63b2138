"""The tree of stages: as text, as it is drawn, and as it is left in a log."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Task

from vgg_deploy.bundle import Bundle
from vgg_deploy.cli.console import show, watching, watching_one_of_many
from vgg_deploy.cli.progress import RichWatcher
from vgg_deploy.pipeline import run
from vgg_deploy.pipeline.stages import Recorder, tree_text
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.report.table import Column, simple_table


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can be drawn on, whatever the tests are run in."""
    monkeypatch.setenv("TERM", "xterm")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def full_disk(watch: Watcher) -> None:
    watch.say("onnx made")
    raise RuntimeError("no space\nin detail")


def test_the_tree_as_text() -> None:
    recorder = Recorder(Silent(), Clock())
    with recorder.stage("train"):
        recorder.say("epoch 1: 0.8")
        recorder.say("epoch 2: 0.9")
    with pytest.raises(RuntimeError), recorder.stage("export"):
        full_disk(recorder)
    assert recorder.text() == (
        "├─ ✓ train, 1.00 s\n"
        "│  ├─ epoch 1: 0.8\n"
        "│  └─ epoch 2: 0.9\n"
        "└─ ✗ export, 1.00 s\n"
        "   ├─ onnx made\n"
        "   └─ no space"
    )
    assert "epoch 1" not in tree_text(recorder.stages, 9, last=1)
    assert "epoch" not in tree_text(recorder.stages, 9, last=0)


def test_a_running_stage_counts_on() -> None:
    recorder = Recorder(Silent(), Clock())
    with recorder.stage("train"):
        assert tree_text(recorder.stages, 75) == "└─ … train, 1 min 14 s"


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_the_tree_with_the_time_left() -> None:
    console = terminal()
    with RichWatcher(console, live=True) as watch, watch.stage("bench"):
        watch.begin("bench ort-cpu", 100, "images")
        watch.advance(40)
        time.sleep(0.3)
        watch.advance(40)
        time.sleep(0.3)
        watch.say("bench: ort-cpu measured")
    shown = text_of(console)
    assert "… bench" in shown
    assert "80/100" in shown
    assert "images/s" in shown
    assert shown.rstrip().endswith("└─ bench: ort-cpu measured")  # the tree stays


@pytest.mark.parametrize(("rank", "draws"), [(None, True), ("0", True), ("1", False)])
def test_of_several_processes_one_draws(
    rank: str | None,
    draws: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with watching_one_of_many() as watch:
        watch.begin("train", 10, "examples")
    assert bool(capsys.readouterr().err) == draws
    with watching() as watch:  # of a command that no torchrun starts
        watch.say("bench: no profile")
    assert "no profile" in capsys.readouterr().err


def test_the_speed_is_summed_no_more_often_than_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def speed(_: Task) -> float:
        asked.append(1)
        return 1.0

    monkeypatch.setattr(Task, "speed", property(speed))
    with RichWatcher(terminal(), live=True) as watch:
        watch.begin("train", 10_000, "examples")
        for _ in range(1000):
            watch.advance()
    assert 0 < len(asked) < 100
    asked.clear()
    with RichWatcher(Console(file=io.StringIO()), live=False) as watch:
        watch.begin("train", 100, "examples")
        watch.advance()
    assert not asked


def test_a_step_of_unknown_length_counts_nothing() -> None:
    console = terminal()
    with RichWatcher(console, live=True) as watch:
        watch.begin("export aoti")
        time.sleep(0.3)
    shown = text_of(console)
    assert "export aoti" in shown
    assert "/?" not in shown


@pytest.mark.parametrize(("seconds", "told"), [(40.0, "about 39"), (0.1, "last time 100 ms")])
def test_a_step_that_was_done_before_tells_the_time_left(seconds: float, told: str) -> None:
    console = terminal()
    with RichWatcher(console, live=True) as watch:
        watch.begin("export aoti", seconds=seconds)
        time.sleep(0.4)
    assert told in text_of(console)


def test_nothing_is_drawn_while_something_is_timed() -> None:
    console = terminal()
    with RichWatcher(console, live=True) as watch:
        watch.begin("bench", 10)
        with watch.undisturbed():
            time.sleep(0.2)  # a drawing that was under way
            before = len(text_of(console))
            time.sleep(0.5)
            assert len(text_of(console)) == before
            watch.advance()
            assert len(text_of(console)) > before


def test_without_a_terminal_there_are_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=100)
    with RichWatcher(console, live=False) as watch, watch.stage("train"):
        watch.begin("epoch", 10)
        watch.advance(5)
        watch.say("epoch 1: 0.8")
    assert text_of(console) == "epoch 1: 0.8\n"


def test_forced_colours_are_colours_and_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the log of a CI service that sets FORCE_COLOR: no control codes, no 80 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    with watching() as watch, watch.stage("train"):
        watch.begin("epoch", 10)
        time.sleep(0.3)
        watch.say(f"epoch 1: {'0.8 ' * 30}")
    wide = "x" * 120
    show(simple_table("Files", [Column(name="file")], [(wide,)]))
    out, err = capsys.readouterr()
    assert err == f"epoch 1: {'0.8 ' * 30}\n"
    assert wide in out
    assert "\x1b[1m" in out


def test_the_log_of_a_run_that_failed(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def stages(_preset: object, _folder: object, watch: Watcher) -> None:
        with watch.stage("train"):
            watch.say("train: reused")
        with watch.stage("export"):
            full_disk(watch)

    monkeypatch.setattr(run, "_run", stages)
    with pytest.raises(RuntimeError):
        run.run_preset("quick", tiny_bundle.root)
    first, *tree = (tiny_bundle.root / run.LOG_FILE).read_text().splitlines()
    assert first.startswith("vgg-deploy run, 20")
    assert [line.split(",")[0] for line in tree] == [
        "├─ ✓ train",
        "│  └─ train: reused",
        "└─ ✗ export",
        "   ├─ onnx made",
        "   └─ no space",
    ]


def test_a_folder_that_is_no_bundle_gets_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_run", lambda _preset, _folder, watch: full_disk(watch))
    with pytest.raises(RuntimeError):
        run.run_preset("quick", tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
