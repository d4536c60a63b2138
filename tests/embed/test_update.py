"""Another model in an app that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vgg_deploy import files
from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, TARGETS, EmbedOptions, TargetName, embed_bundle
from vgg_deploy.embed.targets import RECORD
from vgg_deploy.errors import RefusedInput


def write(bundle: Path, out: Path, target: TargetName, **more: bool) -> tuple[str, ...]:
    precision: Precision = "fp16" if "grey" in str(bundle) else "fp32"
    options = EmbedOptions(target=target, precision=precision, **more)
    return embed_bundle(open_bundle(bundle), out, options).files


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("target", TARGETS)
def test_it_becomes_the_app_that_a_new_one_would_be(
    target: TargetName, made: Path, grey: Path, tmp_path: Path
) -> None:
    app, new = tmp_path / "app", tmp_path / "new"
    write(made, app, target)
    write(grey, new, target)
    before = contents(app)
    (app / "golden" / "old.raw").touch()  # of an image that the new model has not
    assert contents(app) != contents(new)
    replaced = write(grey, app, target, update=True)
    assert contents(app) == contents(new)
    changed = {name for name, held in contents(new).items() if before.get(name) != held}
    assert changed <= set(replaced)
    assert not {"main.py", "main.c", "server.js", ".gitignore"} & set(replaced)


def test_what_is_somebodys_own_stays(made: Path, grey: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    write(made, app, "python")
    for name in ("main.py", "classifier.py", "added.py"):
        (app / name).write_text("# mine", encoding="utf-8")
    readme = app / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"\n", b"\r\n"))  # as Git may
    (app / "test_classifier.py").unlink()
    write(grey, app, "python", update=True)
    for name in ("main.py", "classifier.py", "added.py"):
        assert (app / name).read_text(encoding="utf-8") == "# mine"
    assert json.loads((app / "labels.json").read_text(encoding="utf-8")) == ["cat", "dog", "cow"]
    assert "fp16" in readme.read_text(encoding="utf-8")


def test_an_app_behind_a_link_is_updated(made: Path, grey: Path, tmp_path: Path) -> None:
    write(made, tmp_path / "release-5", "python")
    (tmp_path / "current").symlink_to("release-5")
    write(grey, tmp_path / "current", "python", update=True)
    assert (tmp_path / "current").is_symlink()
    assert "cow" in (tmp_path / "release-5" / "labels.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_an_edited_text_is_not_replaced(
    target: TargetName, made: Path, grey: Path, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    write(made, app, target)
    for name in (TABLE[target].labels, *TABLE[target].bound, "README.md"):
        path = app / name
        text = path.read_bytes()
        path.write_bytes(text + b"mine\n")
        before = contents(app)
        with pytest.raises(RefusedInput, match="is not as embed wrote it") as refused:
            write(grey, app, target, update=True)
        assert str(path) in refused.value.cause
        assert contents(app) == before
        path.write_bytes(text)


def test_what_is_no_such_app_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = tmp_path / "app"
    write(made, app, "c")
    before = contents(app)
    words = ["embed", str(made), "--update", "-t"]
    assert main([*words, "openvino", "-o", str(app)]) == 3  # the files have the same names
    said = " ".join(capsys.readouterr().err.split())
    assert "is an app for c, not for openvino" in said
    assert "give --target c" in said
    assert contents(app) == before
    for folder in (tmp_path / "new", made):
        assert main([*words, "c", "-o", str(folder)]) == 3
        assert "is no app that embed made" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()
    (app / RECORD).write_text("{}", encoding="utf-8")
    assert main([*words, "c", "-o", str(app)]) == 3
    assert "does not hold a valid record" in " ".join(capsys.readouterr().err.split())


def test_the_command_says_what_it_did(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(made), "-t", "python", "-o", str(tmp_path / "app")]
    assert main(words) == main([*words, "--update"]) == 0
    assert "replaced the model in" in capsys.readouterr().err


@pytest.mark.parametrize("last", [1, 3, 5])
@pytest.mark.parametrize("within", [False, True])
def test_a_failure_half_way_leaves_the_old_model(
    within: bool, last: int, made: Path, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a disk that fails before or between the two steps of one file."""
    app, count, swap = tmp_path / "app", 0, files._swap
    write(made, app, "browser")
    before = contents(app)

    def fail(path: Path, new: Path, old: Path) -> None:
        nonlocal count
        count += 1
        if count == last and not within:
            raise OSError(5, "Input/output error")
        swap(path, new.with_name("missing") if count == last else new, old)

    monkeypatch.setattr(files, "_swap", fail)
    with pytest.raises(RefusedInput, match="could not write"):
        write(grey, app, "browser", update=True)
    assert count == last
    assert contents(app) == before
