"""Child processes end with all that they started, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vgg_deploy.bench.cold import cold_start
from vgg_deploy.bench.limits import ceilings
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.machine_run import run
from vgg_deploy.pipeline.machine_steps import Step
from vgg_deploy.process import module_command, run_group

SLEEP = "import time; time.sleep(60)"


def starts_another(note: Path) -> list[str]:
    """A command that starts a process, writes its number down and hangs."""
    script = (
        "import subprocess, sys, pathlib; "
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); "
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); {SLEEP}"
    )
    return [sys.executable, "-c", script]


def number_in(note: Path) -> int:
    """As soon as it is written down; a busy machine starts a Python late."""
    end = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < end, f"{note.name} was not written"
        time.sleep(0.05)
    return int(note.read_text())


def is_gone(pid: int) -> bool:
    """Within ten seconds; an orphan that nobody reaps yet is gone, too."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_what_a_command_says_and_ends_with() -> None:
    script = "import sys; print(sys.stdin.read() + '!'); sys.exit(3)"
    done = run_group([sys.executable, "-c", script], 30, given="hello")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello!\n", "")


def test_what_a_command_says_in_one_stream_and_where(tmp_path: Path) -> None:
    script = "pwd -P; echo first >&2; echo second"
    done = run_group(["sh", "-c", script], 30, cwd=tmp_path, merged=True)
    assert done.stdout == f"{tmp_path.resolve()}\nfirst\nsecond\n"


def test_what_a_command_leaves_in_the_background_ends_with_it() -> None:
    done = run_group(["sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"], 30)
    assert done.returncode == 0
    assert is_gone(int(done.stdout))


def test_bytes_that_are_no_text_are_replaced() -> None:
    script = r"import sys; sys.stdout.buffer.write(b'a\xffb'); sys.stderr.buffer.write(b'\xe9')"
    done = run_group([sys.executable, "-c", script], 30)
    assert (done.stdout, done.stderr) == ("a\ufffdb", "\ufffd")


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    for seconds in (1, 5, 25):  # until both have started
        with pytest.raises(subprocess.TimeoutExpired):
            run_group(starts_another(note), seconds)
        if note.exists() and note.read_text():
            break
    assert is_gone(number_in(note))


def test_ctrl_c_ends_the_whole_group(tmp_path: Path) -> None:
    """A terminal sends it to its own group, and the children have another one."""
    note = tmp_path / "pid"
    call = f"from vgg_deploy.process import run_group; run_group({starts_another(note)!r}, 60)"
    with subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.DEVNULL) as caller:
        child = number_in(note)
        caller.send_signal(signal.SIGINT)
        assert caller.wait(30) != 0
    assert is_gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own way")
def test_a_child_in_another_group_ends_with_its_parent(tmp_path: Path) -> None:
    """A step that is killed cannot end the cold start that it waits for."""
    note = tmp_path / "pid"
    script = (
        "from vgg_deploy.process import end_with_parent; end_with_parent(); import os, pathlib; "
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid())); {SLEEP}"
    )
    command = [sys.executable, "-c", script]
    call = f"from vgg_deploy.process import run_group; run_group({command!r}, 60)"
    with subprocess.Popen([sys.executable, "-c", call]) as caller:
        child = number_in(note)
        caller.kill()
        caller.wait(30)
    assert is_gone(child)


@pytest.fixture
def beside_own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in where the user has files of Python's own names."""
    folder = tmp_path / "user"
    folder.mkdir()
    for name in ("json", "random", "subprocess"):
        (folder / f"{name}.py").write_text("raise SystemExit('not the one that was meant')")
    monkeypatch.chdir(folder)


@pytest.mark.usefixtures("beside_own_modules")
def test_a_cold_start_imports_nothing_of_the_users(tiny_bundle: Bundle) -> None:
    factory, batch = "vgg_deploy.backends.fake:get_fake", np.zeros((1, 1, 32, 32), np.float32)
    found = cold_start(factory, "fake", tiny_bundle.checkpoint, tiny_bundle.root, batch)
    assert found.error == ""
    assert found.first_s is not None


@pytest.mark.usefixtures("beside_own_modules")
def test_nor_do_the_ceilings() -> None:
    assert ceilings("cpu")


@pytest.mark.usefixtures("beside_own_modules")
def test_nor_do_the_steps_of_a_machines_check() -> None:
    done = run(Step(kind="doctor", network="n", python=sys.executable, words=("recipes",)), 60)
    assert (done.code, done.said) == (0, "")
    words = ("torch", "nowhere", "--batch", "1")
    done = run(Step(kind="bench", network="n", python=sys.executable, words=words), 60)
    assert (done.code, "no bundle at nowhere" in done.said) == (3, True)


@pytest.mark.usefixtures("beside_own_modules")
def test_a_child_runs_the_package_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = tmp_path / "installed" / "vgg_deploy"
    another.mkdir(parents=True)
    (another / "__init__.py").write_text("raise SystemExit('another one')")
    monkeypatch.setenv("PYTHONPATH", str(another.parent))
    done = run_group(module_command("vgg_deploy", "recipes", "--json"), 60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_of_ours_is_found_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = module_command("vgg_deploy", "recipes", "--json")
    done = run_group([command[0], "-S", *command[1:]], 60)  # without site-packages
    assert done.stderr.startswith("vgg-deploy: error: "), "it came as far as what it depends on"
    assert "No module named 'vgg_deploy" not in done.stderr
