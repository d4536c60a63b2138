"""Files of a bundle changed by hand, with the manifest's digest edited to fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx

from vgg_deploy.files import sha256_of
from vgg_deploy.golden import FOLDER, INDEX
from vgg_deploy.manifest import MANIFEST


def refit_onnx(root: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Let ``change`` edit the ONNX file of that name in place."""
    path = root / name
    model = onnx.load(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    document = json.loads((root / MANIFEST).read_text())
    for artifact in document["artifacts"]:
        if artifact["path"] == name:
            artifact.update(sha256=sha256_of(path), size_bytes=path.stat().st_size)
    (root / MANIFEST).write_text(json.dumps(document))


def refit_golden(root: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Let ``change`` edit the index of the golden vectors in place."""
    path = root / FOLDER / INDEX
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    document = json.loads((root / MANIFEST).read_text())
    document["golden"]["sha256"] = sha256_of(path)
    (root / MANIFEST).write_text(json.dumps(document))
