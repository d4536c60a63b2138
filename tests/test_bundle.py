"""Bundles: whole or absent files, digests, parents."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card
from vgg_deploy import manifest as manifest_module
from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import DigestMismatch, RefusedInput, ResourceLimit
from vgg_deploy.manifest import MANIFEST, Draft


def draft(bundle: Bundle, format: Format, parent: str | None) -> Draft:
    first = bundle.checkpoint
    return Draft(
        format=format,
        precision="fp32",
        input=first.input,
        output=first.output,
        parent=parent,
        made_by={"b": "2", "a": "1"},
    )


def writes(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


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


def test_a_users_own_gitattributes_stay(tiny_bundle: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "new" / ".gitattributes"
    mine.parent.mkdir()
    mine.write_text("*.safetensors filter=lfs\n")
    weights = str(tiny_bundle.path(tiny_bundle.checkpoint))
    assert main(["load", "--weights", weights, "-o", str(mine.parent)]) == 0
    assert mine.read_text() == "*.safetensors filter=lfs\n"


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


def test_an_existing_bundle_is_not_overwritten(tiny_bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="already is a bundle") as caught:
        make_bundle(tiny_bundle.root, tiny_bundle.card)
    assert "--replace" in caught.value.remedy


@pytest.mark.parametrize("words", [[], ["--replace"]])
@pytest.mark.parametrize("name", ["results/mine.csv", "golden/a.png", "checkpoint.safetensors"])
def test_a_folder_of_somebody_else_is_left_alone(
    tiny_bundle: Bundle, tmp_path: Path, name: str, words: list[str]
) -> None:
    file = tmp_path / "project" / name
    file.parent.mkdir(parents=True)
    weights = tiny_bundle.path(tiny_bundle.checkpoint)
    shutil.copyfile(weights, file)
    before = file.read_bytes()
    for command in (["load", "--weights", str(weights)], ["train", "--data", "sample"]):
        assert main([*command, "-o", str(tmp_path / "project"), *words]) == 3
    assert [p for p in (tmp_path / "project").rglob("*") if p.is_file()] == [file]
    assert file.read_bytes() == before


@pytest.mark.parametrize("manifest", ['{"name": "my web app"}', "[]"])
def test_a_manifest_of_somebody_else_makes_no_bundle(
    tiny_bundle: Bundle, tmp_path: Path, manifest: str
) -> None:
    files = {MANIFEST: manifest, "results/mine.csv": "mine", "golden/a.txt": "mine"}
    app = tmp_path / "app"
    for name, text in files.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    weights = str(tiny_bundle.path(tiny_bundle.checkpoint))
    for command in (["load", "--weights", weights], ["train", "--data", "sample"]):
        for words in ([], ["--replace"]):
            assert main([*command, "-o", str(app), *words]) == 3
    with pytest.raises(RefusedInput, match=r"no bundle, but holds golden and 2 more"):
        make_bundle(app, make_card())
    held = {str(p.relative_to(app)): p.read_text() for p in app.rglob("*") if p.is_file()}
    assert held == files


@pytest.mark.parametrize("name", [".DS_Store", "train.log", "lost+found/x"])
def test_what_no_bundle_would_touch_may_lie_there(tmp_path: Path, name: str) -> None:
    file = tmp_path / "b" / name
    file.parent.mkdir(parents=True)
    file.touch()
    make_bundle(tmp_path / "b", make_card()).check()
    assert file.exists()


def test_a_manifest_that_cannot_be_written_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be taken for somebody else's, and every further try be refused."""

    def full(*_: object) -> None:
        raise ResourceLimit("the disk is full", "free some space")

    with monkeypatch.context() as patched:
        patched.setattr(manifest_module, "save_manifest", full)
        with pytest.raises(ResourceLimit):
            make_bundle(tmp_path / "b", make_card())
    assert [p.name for p in (tmp_path / "b").iterdir()] == [".lock"]
    make_bundle(tmp_path / "b", make_card()).check()


def test_an_interrupted_training_is_not_replaced(tiny_bundle: Bundle, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copyfile(tiny_bundle.path(tiny_bundle.checkpoint), weights)
    kept = tiny_bundle.root / "training" / "checkpoints" / "step-00000007" / "state.json"
    kept.parent.mkdir(parents=True)
    kept.touch()
    words = ["load", "-o", str(tiny_bundle.root), "--replace", "--weights"]
    assert main([*words, str(weights)]) == 3
    assert kept.exists()
    last = tiny_bundle.root / "training" / "last.safetensors"
    shutil.rmtree(kept.parents[1])
    weights.rename(last)
    assert main([*words, str(last)]) == 2
    assert last.exists()


def other_weights(bundle: Bundle, folder: Path) -> Path:
    """A file with weights of the same network that are not the bundle's."""
    other = make_bundle(folder / "other", bundle.card, seed=1)
    return other.path(other.checkpoint)


def test_records_of_the_model_that_was_replaced_go_with_it(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    for name in ("training/metrics.jsonl", "results/verify.json", "report.html", "notes.txt"):
        (tiny_bundle.root / name).parent.mkdir(exist_ok=True)
        (tiny_bundle.root / name).write_text("of the old one")
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    left = sorted(p.name for p in tiny_bundle.root.iterdir() if p.name != ".lock")
    assert left == [".gitattributes", "checkpoint.safetensors", MANIFEST, "notes.txt"]


def test_records_that_are_linked_go_and_what_they_link_to_stays(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    stored = tmp_path / "stored"
    stored.mkdir()
    (stored / "verify.json").write_text("of the old one")
    (tiny_bundle.root / "results").symlink_to(stored)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    assert not (tiny_bundle.root / "results").is_symlink()
    assert [path.name for path in stored.iterdir()] == ["verify.json"]


def test_records_that_cannot_be_removed_are_told(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    record = tiny_bundle.root / "results" / "verify.json"
    record.parent.mkdir()
    record.touch()
    later = tiny_bundle.root / "report.html"
    later.touch()
    remove = os.unlink

    def kept(path: str, **where: int) -> None:  # as on a disk that is read only by now
        if Path(path).name == record.name:
            raise OSError(errno.EROFS, "Read-only file system", path)
        remove(path, **where)

    monkeypatch.setattr(os, "unlink", kept)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 3
    said = capsys.readouterr().err
    assert "is made, but a record of the model before stays: could not remove" in said
    assert record.exists()
    assert not later.exists()


def test_a_mount_among_the_records_is_emptied(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    mount = tiny_bundle.root / "results"
    mount.mkdir()
    (mount / "verify.json").touch()
    remove = os.rmdir

    def busy(path: str, **where: int) -> None:
        if Path(path).name == mount.name:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        remove(path, **where)

    monkeypatch.setattr(os, "rmdir", busy)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    assert not any(mount.iterdir())


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


@pytest.mark.parametrize("manifest", ["{", '{"schema_version": 99}', ""])
def test_a_bundle_whose_manifest_is_damaged_can_be_replaced(
    tiny_bundle: Bundle, tmp_path: Path, manifest: str
) -> None:
    weights = tmp_path / "weights.safetensors"
    tiny_bundle.path(tiny_bundle.checkpoint).rename(weights)
    (tiny_bundle.root / MANIFEST).write_text(manifest)
    words = ["load", "--weights", str(weights), "-o", str(tiny_bundle.root)]
    assert main(words) == 3
    assert main([*words, "--replace"]) == 0
    open_bundle(tiny_bundle.root).check()


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("schema_version", 99, "schema version 99"),
        ("schema_version", "99", "schema version 99"),
        ("schema_version", 99.0, "schema version 99"),
        ("artifacts", "x", "artifacts"),
        ("card", {}, "card"),
    ],
)
def test_a_manifest_that_does_not_fit(
    tiny_bundle: Bundle, key: str, value: object, cause: str
) -> None:
    path = tiny_bundle.root / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(RefusedInput, match=cause):
        open_bundle(tiny_bundle.root)


def test_a_newer_manifest_is_told_as_such_whatever_else_is_new(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.root / MANIFEST
    document = {"schema_version": 2, "models": [json.loads(path.read_text())["card"]]}
    path.write_text(json.dumps(document))
    with pytest.raises(RefusedInput, match="has schema version 2, this vgg-deploy reads 1"):
        open_bundle(tiny_bundle.root)


@pytest.mark.parametrize(
    "name",
    ["../secret", "linked/precious.txt", "model.d/precious.txt", MANIFEST, ".lock", "results",
     "report", ".", "", "model.\\..\\x", "model.\0.onnx", "model."],
)  # fmt: skip
def test_a_manifest_names_artifacts_only(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    """What was made from weights that are gone is removed by the name that the manifest has."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").touch()
    for link in ("linked", "model.d"):
        (tiny_bundle.root / link).symlink_to(outside)
    (tiny_bundle.root / "results").mkdir()
    path = tiny_bundle.root / MANIFEST
    document = json.loads(path.read_text())
    orphan = {**document["artifacts"][0], "path": name, "parent": "0" * 64, "sha256": "1" * 64}
    document["artifacts"].append(orphan | {"format": "engine"})
    path.write_text(json.dumps(document))
    with pytest.raises(RefusedInput, match="no artifact, or lies outside the bundle"):
        tiny_bundle.add(draft(tiny_bundle, "checkpoint", None), writes(b"other weights"))
    assert (outside / "precious.txt").exists()
    assert json.loads(path.read_text()) == document


def test_a_manifest_whose_values_do_not_fit_each_other_is_refused_input(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_bundle.root / "manifest.json"
    document = json.loads(path.read_text())
    document["card"]["labels"] = []
    path.write_text(json.dumps(document))
    assert main(["inspect", str(tiny_bundle.root)]) == 3
    said = capsys.readouterr().err
    assert "manifest.json does not hold a valid Manifest: 0 labels for 10 classes" in said
