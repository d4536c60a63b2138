"""What a manifest may not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drafts import draft, writes
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput
from vgg_deploy.manifest import MANIFEST


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
    assert "manifest.json does not hold a valid manifest: 0 labels for 10 classes" in said
