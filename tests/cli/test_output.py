"""Where output goes: JSON that any reader takes, and readers that go away."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_bundle
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.cli.console import print_json
from vgg_deploy.manifest import save_manifest


def test_json_is_json_even_of_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5], "b": {"c": -math.inf}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": None}}


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(buffered: str) -> None:
    """As with `vgg-deploy … | head`: written at once or when the command ends."""
    command = [sys.executable, "-m", "vgg_deploy", "recipes", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, "")


VERDICT = """
import sys
from vgg_deploy.cli import console, handler
from vgg_deploy.errors import NotEquivalent
from vgg_deploy.report.table import Column, simple_table

def verify(words):
    if {as_json}:
        console.print_json({{"rows": ["x" * 100] * 1000}})
    else:
        console.show(simple_table("t", [Column(name="a")], [("x" * 100,)] * 1000))
    raise NotEquivalent("1 of 1 not equivalent", "see the table")

handler._invoke = verify
sys.exit(handler.run([]))
"""


def test_a_reader_of_the_remarks_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    """The results still arrive on stdout, and the verdict is the exit code."""
    script = VERDICT.format(as_json=True).replace(
        "if True", "[console.remark('progress ' * 50) for _ in range(2000)]\n    if True"
    )
    out = tmp_path / "out.json"
    with (
        out.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-c", script], stdout=file, stderr=subprocess.PIPE, text=True
        ) as running,
    ):
        assert running.stderr is not None
        running.stderr.read(10)
        running.stderr.close()
    assert running.returncode == 7
    assert len(json.loads(out.read_text())["rows"]) == 1000


@pytest.mark.parametrize("as_json", [True, False])
def test_a_reader_that_goes_away_changes_no_verdict(as_json: bool) -> None:
    command = [sys.executable, "-c", VERDICT.format(as_json=as_json)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        said = running.stderr.read()
    assert running.returncode == 7
    assert said.splitlines() == [
        "vgg-deploy: error: 1 of 1 not equivalent",
        "  remedy: see the table",
    ]


def test_what_a_killed_command_left_is_named(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", str(tiny_bundle.root), "--json"]
    assert main(words) == 0
    assert not capsys.readouterr().err
    script = (
        "import os, signal, sys, pathlib; from vgg_deploy.files import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_bytes(bytes(3_000_000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in ("model.onnx", "training/x"):
        command = [sys.executable, "-c", script, str(tiny_bundle.root / name)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert not json.loads(out)["problems"]
    said = " ".join(err.split())
    for folder in (tiny_bundle.root, tiny_bundle.root / "training"):
        (left,) = folder.glob(".partial-*")
        assert f"{left} holds 3.0 MB that were never finished: delete it if" in said


@pytest.mark.parametrize(
    ("made_by", "origin"),
    [
        ({"weights": "x/vgg.pth"}, "loaded from x/vgg.pth, trained on folder pets"),
        ({"command": "train", "dataset": "sample", "epochs": "1"}, "trained on sample, 1 epoch"),
        (
            {"command": "train", "dataset": "sample", "fine_tuned_from": "0123456789abcdef"},
            "trained on sample, begun with checkpoint 0123456789ab…",
        ),
        ({}, "not on record"),
    ],
)
def test_inspect_begins_with_the_network(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made_by: dict[str, str],
    origin: str,
) -> None:
    labels = (*(f"kind {index}" for index in range(11)), "last")
    card = tiny_bundle.card
    card = replace(card, spec=replace(card.spec, classes=12), labels=labels, dataset="folder pets")
    bundle = make_bundle(tmp_path / "other", card)
    first = replace(bundle.checkpoint, made_by=made_by)
    save_manifest(bundle.root, replace(bundle.manifest, artifacts=(first,)))
    assert main(["inspect", str(bundle.root)]) == 0
    out = capsys.readouterr().out
    head, _, _ = out.partition("Artifacts")
    rows = {
        line.split("  ")[0].strip(): line.partition("  ")[2].strip() for line in head.splitlines()
    }
    assert rows["Architecture"].startswith("1x4-1x8-2x8, 7 weight layers")
    assert rows["Input"] == "32 px, 1 channel"
    assert rows["Classes"].startswith("12: kind 0, kind 1")
    assert rows["Classes"].endswith("kind 8 … last")
    assert "mean 0.3" in rows["Preprocessing"]
    assert rows["Weights"] == origin


def test_inspect_says_when_the_manifest_describes_another_model(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_bundle.root / "manifest.json"
    first = tiny_bundle.card.labels[0]
    path.write_text(path.read_text("utf-8").replace(f'"{first}"', '"Hose"', 1), "utf-8")
    assert main(["inspect", str(tiny_bundle.root), "--json"]) == 4
    out, error = capsys.readouterr()
    assert json.loads(out)["problems"] == {"manifest.json": "has other labels than the checkpoint"}
    assert "it describes another model" in error


def test_inspect_names_files_that_only_look_like_the_bundles_own(
    onnx_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.fp16.onnx", "notes.txt", "model.txt"):
        (onnx_bundle.root / name).write_bytes(b"x")
    assert main(["inspect", str(onnx_bundle.root)]) == 0
    err = capsys.readouterr().err
    assert "model.fp16.onnx looks like a file of the bundle, but" in err
    assert "model.fp32.onnx" not in err
    assert "notes.txt" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's way")
@pytest.mark.parametrize(
    ("words", "closed", "code", "told"),
    [
        ("summary vgg11", ">&-", 0, ""),
        ("recipes --json", ">&-", 0, ""),
        ("summary nosuch", "2>&-", 2, ""),
        ("summary nosuch", ">&- <&-", 2, "vgg-deploy: error: unknown architecture 'nosuch'"),
        ("summary nosuch", ">&- 2>&- <&-", 2, ""),
    ],
)
def test_closed_streams_change_no_exit_code(words: str, closed: str, code: int, told: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m vgg_deploy {words} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert not done.stdout
    assert done.stderr.partition("\n")[0].startswith(told)
    assert bool(done.stderr) == bool(told)


POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SIGNS = """
import sys
from vgg_deploy.cli import console, handler
from vgg_deploy.errors import NotEquivalent
from vgg_deploy.report.table import Column, Row, Table

def verify(words):
    row = Row(cells=("\\udcff 3×10⁻⁷ ≤ ½",), status="ok")
    console.show(Table(title="Tops", columns=(Column(name="a"),), rows=(row,)))
    console.remark("└─ ✓ train …")
    raise NotEquivalent("→", "’")

handler._invoke = verify
sys.exit(handler.run([]))
"""


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, POSIX, {"PYTHONIOENCODING": "utf-8"}]
)
def test_what_an_encoding_lacks_changes_no_verdict(
    encoding: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "verify.py"
    script.write_text(SIGNS, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in (*POSIX, "PYTHONIOENCODING")}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment | encoding, capture_output=True, check=False
    )
    said, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 7, err
    if encoding.get("PYTHONIOENCODING") == "utf-8":
        assert "✓  \\udcff 3×10⁻⁷ ≤ ½" in said
    else:
        assert "|+ |\\udcff 3x10^-7 <= \\xbd" in said
        assert err.splitlines() == [
            "`- + train ...",
            "vgg-deploy: error: ->",
            "  remedy: '",
        ]
