"""What somebody else put into a folder, before a bundle is made in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card
from vgg_deploy import manifest as manifest_module
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, ResourceLimit
from vgg_deploy.manifest import MANIFEST


def test_a_users_own_gitattributes_stay(tiny_bundle: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "new" / ".gitattributes"
    mine.parent.mkdir()
    mine.write_text("*.safetensors filter=lfs\n")
    weights = str(tiny_bundle.path(tiny_bundle.checkpoint))
    assert main(["load", "--weights", weights, "-o", str(mine.parent)]) == 0
    assert mine.read_text() == "*.safetensors filter=lfs\n"


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
