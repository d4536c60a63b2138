"""TorchScript, exported program and AOTInductor package: equal to torch, with their texts."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tests.export.networks import CARDS, Run, check_equal, lively_bundle, preprocessing_of
from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.export import ExportOptions, aoti_missing, export
from vgg_deploy.export.to_program import aoti_made_by

TEXTS = ("card.json", "labels.json", "preprocessing.json")
needs_compiler = pytest.mark.skipif(aoti_missing() is not None, reason="no C++ compiler")


def load_script(path: Path, texts: dict[str, str]) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        run: Run = torch.jit.load(str(path), _extra_files=texts)
    for name, text in cast("dict[str, bytes]", texts).items():  # what torch leaves there
        texts[name] = text.decode()
    return run


def load_program(path: Path, texts: dict[str, str]) -> Run:
    return torch.export.load(path, extra_files=texts).module()


def load_package(path: Path) -> Run:
    return torch._inductor.aoti_load_package(str(path))


def check_texts(bundle: Bundle, texts: dict[str, str]) -> None:
    assert json.loads(texts["labels.json"]) == list(bundle.card.labels)
    assert preprocessing_of(texts["preprocessing.json"]) == bundle.card.preprocessing
    assert json.loads(texts["card.json"])["spec"]["arch"] == bundle.card.spec.arch


def check_no_paths(path: Path, *texts: str) -> None:
    content = path.read_bytes()
    for text in ("site-packages", "partial-", str(Path.cwd()), *texts):
        assert text.encode() not in content


@pytest.mark.parametrize("format", ["torchscript", "program"])
@pytest.mark.parametrize("name", CARDS)
def test_equals_torch(
    tmp_path: Path, name: str, format: Format, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, artifact, reused = export(lively_bundle(tmp_path, CARDS[name]), format)
    assert not reused
    assert capfd.readouterr() == ("", "")
    texts = dict.fromkeys(TEXTS, "")
    load = load_script if format == "torchscript" else load_program
    check_equal(bundle, load(bundle.path(artifact), texts))
    check_texts(bundle, texts)
    check_no_paths(bundle.path(artifact), str(tmp_path))


def test_script_is_frozen_without_batch_norm(tmp_path: Path) -> None:
    bundle, artifact, _ = export(lively_bundle(tmp_path, CARDS["vgg11_bn"]), "torchscript")
    script = load_script(bundle.path(artifact), {})
    assert "batch_norm" not in str(script.inlined_graph)  # type: ignore[attr-defined]
    assert not list(script.parameters())  # type: ignore[attr-defined]


def test_program_refuses_more_than_its_largest_batch(tmp_path: Path) -> None:
    bundle = lively_bundle(tmp_path, CARDS["grey"])
    bundle, artifact, _ = export(bundle, "program", options=ExportOptions(max_batch=4))
    run = load_program(bundle.path(artifact), {})
    run(torch.zeros(4, 1, 32, 32))
    with pytest.raises(AssertionError, match="4"):
        run(torch.zeros(5, 1, 32, 32))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_lrn", "ceil_50_bn"])
def test_package_equals_torch(
    tmp_path: Path,
    name: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative bundle: the compiler sees other names than we do
    bundle, artifact, _ = export(lively_bundle(Path("bundle"), CARDS[name]), "aoti")
    assert capfd.readouterr() == ("", "")
    path = bundle.path(artifact)
    check_equal(bundle, load_package(path))
    with zipfile.ZipFile(path) as archive:
        texts = {
            file: archive.read(entry).decode()
            for entry in archive.namelist()
            for file in TEXTS
            if entry.endswith(f"extra/{file}")
        }
        assert not [entry for entry in archive.namelist() if entry.endswith(".cpp")]
    check_texts(bundle, texts)
    check_no_paths(path, str(tmp_path), os.fspath(Path(torch.__file__).parent))
    assert {entry.name for entry in bundle.root.iterdir()} == {
        ".gitattributes",
        ".lock",
        "checkpoint.safetensors",
        "manifest.json",
        "model.fp32.aoti.pt2",
    }


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = lively_bundle(tmp_path, CARDS["grey"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        BackendNotAvailable, match=r"neither g\+\+ nor clang\+\+ was found"
    ) as caught:
        export(bundle, "aoti")
    assert "apt-get install g++" in caught.value.remedy
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendNotAvailable, match=r"\$CXX \(no-such-compiler\) was found"):
        export(bundle, "aoti")


@pytest.mark.parametrize("command", ["{}", "ccache {}", "/usr/bin/ccache distcc {}"])
def test_the_compiler_in_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    compiler = tmp_path / "my-g++"
    compiler.write_text("#!/bin/sh\necho 99\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", command.format(compiler))
    assert aoti_missing() is None
    assert aoti_made_by(ExportOptions())["compiler"] == "my-g++ 99"
    for other in (tmp_path / "absent", f"{compiler} -m32", f'"{compiler}'):
        monkeypatch.setenv("CXX", command.format(other))
        assert aoti_missing() is not None


@needs_compiler
@pytest.mark.slow
def test_a_compiler_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *version*) echo "g++ 1.0 Free Software Foundation";; '
        '*) echo "fatal error: it is broken" >&2; exit 1;; esac\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    bundle = lively_bundle(tmp_path / "bundle", CARDS["grey"])
    with pytest.raises(BackendNotAvailable, match="AOTInductor could not compile: "):
        export(bundle, "aoti")
    assert capfd.readouterr() == ("", "")
    assert not list((tmp_path / "bundle").glob(".partial-*"))


@pytest.mark.parametrize("category", [FutureWarning, DeprecationWarning])
def test_no_torch_tells_the_user_that_its_format_is_old(
    category: type[Warning], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = torch.jit.trace

    def trace(*given: Any, **more: Any) -> Any:
        warnings.warn("`torch.jit.trace` is deprecated. Use torch.export", category, stacklevel=2)
        return real(*given, **more)

    monkeypatch.setattr(torch.jit, "trace", trace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(lively_bundle(tmp_path, CARDS["vgg11_bn"]), "torchscript")
