"""Files and the manifest that names them: both or neither, and one command at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_bundle
from tests.drafts import draft, writes
from vgg_deploy import manifest as manifest_module
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, ResourceLimit


def state_of(bundle: Bundle) -> dict[str, bytes]:
    files = (p for p in bundle.root.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(bundle.root)): p.read_bytes() for p in files}


def golden(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in ("index.json", f"{len(content)}.raw"):
            (folder / name).write_bytes(content)

    return write


ADDING: dict[str, Callable[[Bundle, bytes], object]] = {
    "checkpoint": lambda b, new: b.add(draft(b, "checkpoint", None), writes(new)),
    "artifact": lambda b, new: b.add(draft(b, "onnx", b.checkpoint.sha256), writes(new)),
    "engine": lambda b, new: b.add(
        draft(b, "engine", b.checkpoint.sha256), writes(new), lambda digest: {"of": digest}
    ),
    "golden vectors": lambda b, new: b.add_golden({}, golden(new)),
    "bundle": lambda b, new: create_bundle(
        b.root, b.card, draft(b, "checkpoint", None), writes(new), replace=True
    ),
}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ResourceLimit("full", "free some")])
@pytest.mark.parametrize("failing", ["save_manifest", "commit"])
@pytest.mark.parametrize("what", ADDING)
def test_what_the_manifest_cannot_tell_does_not_stay(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    failing: str,
    error: BaseException,
    links: bool,
) -> None:
    """New bytes under the old digest would be exit 4 from then on."""
    for first in ("artifact", "engine", "golden vectors"):
        ADDING[first](tiny_bundle, b"old")
    before = state_of(tiny_bundle)

    def fails(*_: object) -> None:
        raise error

    def no_links(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(manifest_module, failing, fails)
        if not links:
            patched.setattr(os, "link", no_links)
        with pytest.raises(type(error)):
            ADDING[what](tiny_bundle, b"new one")
    assert state_of(tiny_bundle) == before
    ADDING[what](tiny_bundle, b"new one")
    assert state_of(tiny_bundle) != before


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_manifest_that_could_not_be_read_again_is_not_written(tiny_bundle: Bundle) -> None:
    bad = replace(draft(tiny_bundle, "onnx", None), made_by={"torch": None})  # type: ignore[dict-item]
    before = state_of(tiny_bundle)
    with pytest.raises(RefusedInput, match=r"made_by\.torch"):
        tiny_bundle.add(bad, writes(b"x"))
    assert state_of(tiny_bundle) == before
    assert open_bundle(tiny_bundle.root) == tiny_bundle


@pytest.mark.parametrize("what", ADDING)
def test_ctrl_c_after_the_manifest_was_saved_keeps_both(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    save = manifest_module.save_manifest

    def late(root: Path, manifest: manifest_module.Manifest) -> None:
        save(root, manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest_module, "save_manifest", late)
    with pytest.raises(KeyboardInterrupt):
        ADDING[what](tiny_bundle, b"new one")
    after = open_bundle(tiny_bundle.root)
    assert after != tiny_bundle
    after.check(after.artifacts)
    assert b"new one" in state_of(after).values()


ADD_TWENTY = """
import sys
from pathlib import Path
from vgg_deploy.artifact import Target
from vgg_deploy.bundle import open_bundle
from vgg_deploy.manifest import Draft
root, version = sys.argv[1:]
bundle = open_bundle(Path(root))
first = bundle.checkpoint
for number in range(20):
    target = Target(flavour="tensorrt", version=version, compute_capability=f"{number}.0")
    draft = Draft(format="engine", precision="fp32", input=first.input, output=first.output,
        parent=first.sha256, made_by={}, target=target)
    bundle.add(draft, lambda path: path.write_text(f"{version} for {number}"))
"""


def test_two_commands_may_write_to_one_bundle(tiny_bundle: Bundle) -> None:
    """Both read the manifest before the other has written it, again and again."""
    command = [sys.executable, "-c", ADD_TWENTY, str(tiny_bundle.root)]
    both = [subprocess.Popen([*command, name]) for name in ("10", "11")]
    assert [process.wait(120) for process in both] == [0, 0]
    after = open_bundle(tiny_bundle.root)
    assert len({a.path for a in after.artifacts if a.format == "engine"}) == 40
    after.check()


def test_a_bundle_that_another_command_keeps_is_exit_6(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(manifest_module, "_LOCK_SECONDS", 0.1)
    other = make_bundle(tmp_path / "other", tiny_bundle.card, seed=1)
    weights = other.path(other.checkpoint)
    words = ["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]
    before = state_of(tiny_bundle)
    with manifest_module.locked(tiny_bundle.root):
        assert main(words) == 6
    said = capsys.readouterr().err
    assert f"error: another command has been writing to {tiny_bundle.root} for 0.1 s" in said
    assert "remedy: wait for it to end and try again" in said
    assert state_of(tiny_bundle) == before
    assert main(words) == 0
