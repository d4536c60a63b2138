"""One small network per kind of graph, already exported to fp32 ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.export.networks import lively_bundle, named
from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.export import export
from vgg_deploy.manifest import Draft
from vgg_deploy.precision import CalibrationOptions

GRAPHS = ("vgg11_lrn", "1x8-2x16_bn")
OPTIONS = CalibrationOptions(data="sample", images=32)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a bundle with an fp32 ONNX, made once per architecture; never write to it."""
    made: dict[str, Path] = {}

    def folder(arch: str) -> Path:
        if arch not in made:
            root = tmp_path_factory.mktemp(arch)
            made[arch] = export(lively_bundle(root, named(arch)), "onnx")[0].root
        return made[arch]

    return folder


@pytest.fixture
def bundle(
    exported: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> Bundle:
    """A copy of such a bundle that a test may change."""
    import shutil

    from vgg_deploy.bundle import open_bundle

    root = shutil.copytree(exported(getattr(request, "param", "1x8-2x16_bn")), tmp_path / "copy")
    return open_bundle(root)


def artifact_of(bundle: Bundle, precision: Precision) -> Artifact:
    found = bundle.find("onnx", precision)
    assert found is not None
    return found


def with_changed_onnx(bundle: Bundle, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    """The bundle with another fp32 ONNX."""
    source = artifact_of(bundle, "fp32")
    model = onnx.load(bundle.path(source))
    change(model)
    draft = Draft(
        format="onnx",
        precision="fp32",
        input=source.input,
        output=source.output,
        parent=source.parent,
        made_by=source.made_by,
    )
    return bundle.add(draft, lambda path: onnx.save(model, path))[0]
