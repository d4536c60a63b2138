"""Bundles: whole or absent files, digests, parents."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card
from tests.drafts import draft, writes
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput, ResourceLimit
from vgg_deploy.manifest import MANIFEST


def test_what_was_added_is_read_back(tiny_bundle: Bundle) -> None:
    bundle, artifact = tiny_bundle.add(
        draft(tiny_bundle, "onnx", tiny_bundle.checkpoint.sha256), writes(b"x")
    )
    again = open_bundle(bundle.root)
    assert again == bundle
    assert again.find("onnx") == artifact
    assert list(artifact.made_by) == ["a", "b"]
    again.check()


def test_descendants_of_replaced_weights_are_dropped(tiny_bundle: Bundle) -> None:
    first = tiny_bundle.checkpoint
    bundle, onnx = tiny_bundle.add(draft(tiny_bundle, "onnx", first.sha256), writes(b"x"))
    bundle, _ = bundle.add(draft(bundle, "engine", onnx.sha256), writes(b"engine"))
    bundle, _ = bundle.add(draft(bundle, "checkpoint", None), writes(b"other weights"))
    assert [a.format for a in bundle.artifacts] == ["checkpoint"]
    assert sorted(p.name for p in bundle.root.iterdir() if p.name != ".lock") == [
        ".gitattributes", "checkpoint.safetensors", MANIFEST
    ]  # fmt: skip


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_write_changes_nothing(tiny_bundle: Bundle, error: BaseException) -> None:
    before = {p.name: p.read_bytes() for p in tiny_bundle.root.iterdir() if p.name != ".lock"}

    def half(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    expected = ResourceLimit if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        tiny_bundle.add(draft(tiny_bundle, "checkpoint", None), half)
    after = {p.name: p.read_bytes() for p in tiny_bundle.root.iterdir() if p.name != ".lock"}
    assert after == before


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_git_leaves_line_endings_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = tiny_bundle.add_golden({}, lambda folder: writes(b"{}\n")(folder / "index.json"))
    clone = tmp_path / "clone"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a bundle"]):
        subprocess.run([*git, "-C", str(bundle.root), *words], check=True)
    subprocess.run(
        ["git", "clone", "-q", "-c", "core.autocrlf=true", str(bundle.root), str(clone)], check=True
    )
    assert (clone / "golden" / "index.json").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (b"{}\n\n", b"{}\r\n\r\n", True),
        (b"{}\n" * (1 << 20), b"{}\r\n" * (1 << 20), True),  # some at the seam of two pieces
        (b"{}\n\n", b"[]\r\n\r\n", False),
        (b"{}\n\n", b"{}\n\r", False),
    ],
    ids=["short", "long", "edited, too", "a lone CR"],
)
def test_line_endings_that_were_changed_are_told(
    tiny_bundle: Bundle, before: bytes, after: bytes, told: bool
) -> None:
    onnx = draft(tiny_bundle, "onnx", tiny_bundle.checkpoint.sha256)
    bundle, artifact = tiny_bundle.add(onnx, writes(before))
    bundle = bundle.add_golden({}, lambda folder: writes(before)(folder / "index.json"))
    bundle.path(artifact).write_bytes(after)
    (bundle.golden_folder / "index.json").write_bytes(after)
    for problem in (bundle.problem(artifact), bundle.golden_problem()):
        assert ("its line endings are CRLF instead of LF" in (problem or "")) == told
        assert problem


@pytest.mark.parametrize("how", ["truncate", "edit", "remove"])
def test_a_changed_file_is_exit_4(tiny_bundle: Bundle, how: str) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    data = bytearray(path.read_bytes())
    if how == "truncate":
        path.write_bytes(data[:-1])
    elif how == "edit":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(DigestMismatch, match=r"checkpoint\.safetensors") as caught:
        tiny_bundle.check()
    assert caught.value.exit_code == 4


def test_places_that_are_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="no bundle at"):
        open_bundle(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RefusedInput, match="is a file"):
        open_bundle(tmp_path / "file")
    with pytest.raises(RefusedInput, match=r"no manifest\.json"):
        open_bundle(tmp_path)
    with pytest.raises(RefusedInput, match="below a file"):
        make_bundle(tmp_path / "file" / "below", make_card())


def test_of_two_that_make_the_same_bundle_the_second_is_refused(tiny_bundle: Bundle) -> None:
    """The other one comes in while this one's weights are being written."""
    root = tiny_bundle.root.parent / "both"

    def slow(path: Path) -> None:
        make_bundle(root, make_card())
        path.write_bytes(b"other weights")

    with pytest.raises(RefusedInput, match="already is a bundle"):
        create_bundle(
            root, make_card(), draft(tiny_bundle, "checkpoint", None), slow, replace=False
        )
    open_bundle(root).check()


def test_what_was_made_of_weights_that_are_gone_by_now_does_not_enter(tiny_bundle: Bundle) -> None:
    old = draft(tiny_bundle, "onnx", tiny_bundle.checkpoint.sha256)
    other, _ = tiny_bundle.add(draft(tiny_bundle, "checkpoint", None), writes(b"other weights"))
    with pytest.raises(DigestMismatch, match="another command has replaced it"):
        tiny_bundle.add(old, writes(b"x"))
    with pytest.raises(DigestMismatch, match="another command has replaced it"):
        tiny_bundle.add_golden({}, lambda folder: writes(b"{}")(folder / "index.json"))
    assert open_bundle(other.root) == other
    assert not (other.root / "model.fp32.onnx").exists()
