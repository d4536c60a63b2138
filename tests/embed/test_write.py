"""What an app holds, and what is refused: nothing here needs a tool of another language."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.embed.conftest import LABELS
from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, TARGETS, EmbedOptions, TargetName, embed_bundle, write
from vgg_deploy.embed.write import PRECISIONS
from vgg_deploy.errors import DigestMismatch, RefusedInput, UsageError
from vgg_deploy.files import sha256_of
from vgg_deploy.golden import FOLDER, load_index

TEMPLATES = Path(write.__file__).parent / "templates"
HOSTS = r"registry\.npmjs|registry\.yarnpkg|pypi\.org|pythonhosted|\"resolved\""


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".onnx", ".raw", ".bin"):
            yield str(path), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", TARGETS)
def test_an_app_is_complete(target: TargetName, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "app"
    written = embed_bundle(bundle, out, EmbedOptions(target=target))
    row, artifact = TABLE[target], bundle.find("embedded")
    assert artifact is not None
    assert sha256_of(out / row.model) == artifact.sha256 == written.model_sha256
    assert load_index(out / FOLDER) == load_index(bundle.golden_folder)
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert artifact.sha256 in readme
    assert "classify(" in readme
    assert not list(out.rglob("*.j2"))
    assert {name for name, text in texts(out) if "{{" in text or "{%" in text} == set()
    for name in written.files:
        assert (out / name).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["app", "bundle"]  # nothing beside it


@pytest.mark.parametrize("target", TARGETS)
def test_labels_survive(target: TargetName, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "app"
    embed_bundle(bundle, out, EmbedOptions(target=target))
    text = (out / TABLE[target].labels).read_text(encoding="utf-8")
    found = json.loads(text) if TABLE[target].labels.endswith(".json") else text.splitlines()
    assert tuple(found) == LABELS


@pytest.mark.parametrize("target", TARGETS)
def test_the_readme_names_what_belongs_to_one_model(
    target: TargetName, made: Path, grey: Path, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    embed_bundle(open_bundle(made), one, EmbedOptions(target=target))
    embed_bundle(open_bundle(grey), other, EmbedOptions(target=target, precision="fp16"))
    held = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    differ = {
        f"{FOLDER}/" if name.startswith(f"{FOLDER}/") else name
        for name in held
        if not (other / name).exists() or (one / name).read_bytes() != (other / name).read_bytes()
    }
    said = (one / "README.md").read_text(encoding="utf-8").rpartition("\nFor another model")[2]
    named = set(re.findall("`([^` ]+)`", said))
    assert named | {"README.md"} == differ


JS_NAMES = r"^export (?:async )?(?:class|function) (\w+)"


@pytest.mark.parametrize("name", ["classifier", "read_image"])
def test_types_are_declared_for_what_is_exported(name: str) -> None:
    made, declared = (
        set(re.findall(JS_NAMES, (TEMPLATES / "node" / f"{name}{end}").read_text(), re.MULTILINE))
        for end in (".js", ".d.ts")
    )
    assert made
    assert made == declared


def test_no_template_names_a_registry() -> None:
    named = [name for name, text in texts(TEMPLATES) if re.search(HOSTS, text)]
    assert named == []


@pytest.mark.parametrize("file", [*TEMPLATES.rglob("requirements.txt")], ids=str)
def test_python_requirements_are_pinned(file: Path) -> None:
    for line in file.read_text(encoding="utf-8").splitlines():
        assert re.match(r"[a-z\[\],-]+==\d", line), line


@pytest.mark.parametrize("file", [*TEMPLATES.rglob("package.json")], ids=str)
def test_npm_packages_are_pinned_and_locked(file: Path) -> None:
    package = json.loads(file.read_text(encoding="utf-8"))
    lock = json.loads(file.with_name("package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = package["dependencies"] | package.get("devDependencies", {})
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for name, entry in lock.items() if name)


def test_an_interrupted_write_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_copy_model", interrupt)
    with pytest.raises(KeyboardInterrupt):
        embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="node"))
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_used_folder_is_refused_and_an_empty_one_taken(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "app"
    out.mkdir()
    embed_bundle(bundle, out, EmbedOptions(target="python"))
    before = sorted(out.rglob("*"))
    with pytest.raises(RefusedInput, match="not empty"):
        embed_bundle(bundle, out, EmbedOptions(target="node"))
    assert sorted(out.rglob("*")) == before
    with pytest.raises(RefusedInput, match="not a folder"):
        embed_bundle(bundle, out / "README.md", EmbedOptions(target="node"))


def test_the_current_folder_is_filled_and_stays(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "app"
    out.mkdir(mode=0o700)
    monkeypatch.chdir(out)
    before = out.stat()
    written = embed_bundle(bundle, Path(), EmbedOptions(target="python"))
    assert (out.stat().st_ino, out.stat().st_mode) == (before.st_ino, before.st_mode)
    assert set(written.files) == {str(path.relative_to(out)) for path in out.rglob("*")}
    with pytest.raises(RefusedInput, match=r"not empty: it holds \S+"):
        embed_bundle(bundle, Path("new/.."), EmbedOptions(target="node"))
    assert not Path("new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "bundle"]


def test_a_folder_that_is_not_filled_whole_stays_empty(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "main.py":
            raise KeyboardInterrupt
        return rename(self, target)

    out, rename = tmp_path / "app", Path.rename
    out.mkdir()
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_bundle(bundle, out, EmbedOptions(target="python"))
    assert list(out.iterdir()) == []


def test_a_folder_that_somebody_fills_meanwhile_is_left_alone(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "app"
    out.mkdir()
    monkeypatch.setattr(write, "_check_copies", lambda *_: (out / "main.py").touch())
    with pytest.raises(RefusedInput, match=r"not empty: it holds main\.py"):
        embed_bundle(bundle, out, EmbedOptions(target="python"))
    assert [(path.name, path.stat().st_size) for path in out.iterdir()] == [("main.py", 0)]


def test_an_app_of_a_read_only_bundle_can_be_changed(bundle: Bundle, tmp_path: Path) -> None:
    paths = [bundle.root, *bundle.root.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="c"))
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)
    fixed = [path for path in (tmp_path / "app").rglob("*") if not path.stat().st_mode & 0o200]
    assert fixed == []


def test_a_bundle_may_lie_below_a_folder_of_packages(made: Path, tmp_path: Path) -> None:
    below = tmp_path / "node_modules" / "__pycache__" / "bundle"
    shutil.copytree(made, below)
    embed_bundle(open_bundle(below), tmp_path / "app", EmbedOptions(target="c"))
    assert load_index(tmp_path / "app" / FOLDER) == load_index(made / FOLDER)


@pytest.mark.parametrize("changed", ["model", "image"])
def test_a_bundle_that_changes_while_it_is_read_is_refused(
    changed: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for another command that writes between the check and the copy."""
    artifact = bundle.find("embedded")
    assert artifact is not None
    image = bundle.golden_folder / load_index(bundle.golden_folder).images[0].file
    path = bundle.path(artifact) if changed == "model" else image
    monkeypatch.setattr(
        write, "_limits", lambda *_: path.write_bytes(path.read_bytes()[:-1] + b"!")
    )
    with pytest.raises(DigestMismatch, match="changed while it was read"):
        embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="browser"))
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_what_a_bundle_lacks_is_said(bundle: Bundle, tmp_path: Path) -> None:
    options, out = EmbedOptions(target="c"), tmp_path / "app"
    others = tuple(a for a in bundle.artifacts if (a.format, a.precision) != ("embedded", "fp32"))
    plain = replace(bundle.manifest, artifacts=others)
    with pytest.raises(RefusedInput, match="no fp32 ONNX file for other apps") as refused:
        embed_bundle(Bundle(bundle.root, plain), out, options)
    assert "--format onnx --embedded" in refused.value.remedy
    labels = tuple(f"class {i}" for i in range(len(LABELS)))
    unnamed = replace(bundle.manifest, card=replace(bundle.card, labels=labels))
    with pytest.raises(RefusedInput, match="has no labels") as refused:
        embed_bundle(Bundle(bundle.root, unnamed), out, options)
    assert "--labels" in refused.value.remedy
    with pytest.raises(UsageError, match="unknown target"):
        EmbedOptions(target="nod")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown precision for apps 'bf16'"):
        EmbedOptions(target="c", precision="bf16")
    assert not out.exists()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_that_was_asked_for(
    precision: Precision, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "app"
    words = ["embed", str(bundle.root), "--target", "python", "-p", precision, "-o", str(out)]
    assert main(words) == 0
    artifact = bundle.find("embedded", precision)
    assert artifact is not None
    assert sha256_of(out / "model.onnx") == artifact.sha256
    assert f'["tolerances"]["{precision}"]' in (out / "test_classifier.py").read_text()
    assert f", {precision}, " in (out / "README.md").read_text(encoding="utf-8")


def test_a_missing_precision_is_refused_with_the_command_that_makes_it(
    bundle: Bundle, tmp_path: Path
) -> None:
    others = tuple(a for a in bundle.artifacts if (a.format, a.precision) != ("embedded", "int8"))
    without = Bundle(bundle.root, replace(bundle.manifest, artifacts=others))
    with pytest.raises(RefusedInput, match="no int8 ONNX file for other apps") as refused:
        embed_bundle(without, tmp_path / "app", EmbedOptions(target="c", precision="int8"))
    assert "--precision int8 --embedded" in refused.value.remedy


def test_an_edited_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    artifact = bundle.find("embedded")
    assert artifact is not None
    path = bundle.path(artifact)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DigestMismatch):
        embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="python"))
    assert not (tmp_path / "app").exists()


def test_an_edited_golden_vector_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    image = bundle.golden_folder / load_index(bundle.golden_folder).images[0].file
    image.write_bytes(bytes(len(image.read_bytes())))
    with pytest.raises(DigestMismatch):
        embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="python"))
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize(
    ("resize", "target", "word"),
    [("native", "openvino", "computes wrongly"), ("none", "python", "one size")],
)
def test_a_file_that_does_not_suit_the_target(
    resize: str, target: TargetName, word: str, bundle: Bundle, tmp_path: Path
) -> None:
    words = ["export", str(bundle.root), "--format", "onnx", "--embedded", "--resize", resize]
    assert main(words) == 0
    with pytest.raises(RefusedInput, match=word):
        embed_bundle(open_bundle(bundle.root), tmp_path / "app", EmbedOptions(target=target))


def test_the_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "app"
    words = ["embed", str(bundle.root), "--target", "python", "-o", str(out)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"] == "python"
    assert told["tested"] is False
    assert main(words) == 3  # not empty now
    assert "is not empty" in capsys.readouterr().err
    assert main([*words[:3], "pyhton", *words[4:]]) == 2
    assert "did you mean 'python'" in capsys.readouterr().err
    assert main([*words[:3], "cpp", *words[4:]]) == 2
    assert "C++ (OpenVINO) is 'openvino'" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "both"), "-t", "node"]) == 2
    assert "one target at a time, not python and node" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("key", ["labels", "preprocessing"])
def test_an_edited_manifest_makes_no_app(bundle: Bundle, tmp_path: Path, key: str) -> None:
    path = bundle.root / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    if key == "labels":
        document["card"]["labels"].reverse()
    else:
        document["card"]["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DigestMismatch, match=f"holds other {key} than the bundle's card"):
        embed_bundle(open_bundle(bundle.root), tmp_path / "app", EmbedOptions(target="node"))
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Katze", "Hund"], ""),
        (["dog", "cat"], "in another order"),
        (["cat"], "1 labels for 2 classes"),
    ],
)
def test_the_python_app_takes_translated_labels_but_not_another_order(
    two_classes: Path, tmp_path: Path, labels: list[str], said: str
) -> None:
    embed_bundle(open_bundle(two_classes), tmp_path / "app", EmbedOptions(target="python"))
    (tmp_path / "app/labels.json").write_text(json.dumps(labels), encoding="utf-8")
    load = runpy.run_path(str(tmp_path / "app/classifier.py"))["Classifier"]
    with pytest.raises(ValueError, match=said) if said else nullcontext():
        assert load(tmp_path / "app").labels == labels
