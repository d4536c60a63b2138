"""Full and read-only disks, real ones: the documented exit code, and every file as it was."""

from __future__ import annotations

import pytest

from tests.conftest import make_bundle, make_card
from tests.hostile.disk import run_on_disk, unavailable
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available"),
]

TINY = ("--arch", "1x4-1x8", "--width", "1", "--size", "32", "--fc-width", "256")
COMMANDS = {
    "train": ("train", *TINY, "--epochs", "1", "--data", "sample", "-o", "new"),
    "load": ("load", "--weights", "bundle/checkpoint.safetensors", "-o", "new"),
    "export": ("export", "bundle", "-f", "program"),
    "verify": ("verify", "bundle", "-b", "ort-cpu", "--data", "sample"),
    "bench": ("bench", "bundle", "-b", "ort-cpu", "--seconds", "0.05"),
    "report": ("report", "bundle"),
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with an ONNX file whose checkpoint is larger than what a full disk has left."""
    bundle = make_bundle(tmp_path_factory.mktemp("hostile") / "b", make_card())
    assert main(["export", str(bundle.root), "-f", "onnx"]) == 0
    return bundle


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_exit_6_and_loses_nothing(name: str, ready: Bundle) -> None:
    found = run_on_disk("full", 4, ready.root, *COMMANDS[name])
    assert found["code"] == 6, found["said"]
    _two_lines(found["said"])
    assert found["after"] == found["before"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_exit_3_and_loses_nothing(name: str, ready: Bundle) -> None:
    found = run_on_disk("read-only", 4, ready.root, *COMMANDS[name])
    assert found["code"] == 3, found["said"]
    _two_lines(found["said"])
    assert found["after"] == found["before"]


def test_a_disk_that_is_neither_takes_the_same_commands(ready: Bundle) -> None:
    """The two tests above fail for the disk's sake and no other."""
    for name in ("load", "export", "report"):
        found = run_on_disk("roomy", 64, ready.root, *COMMANDS[name])
        assert found["code"] == 0, found["said"]
        assert set(found["after"]) > set(found["before"])


def _two_lines(said: str) -> None:
    lines = [line for line in said.splitlines() if line.startswith(("vgg-deploy: error:", "  rem"))]
    assert len(lines) == 2, said
    assert "Traceback" not in said
