"""What ``load`` does with options beside weights that say themselves what they are."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, UsageError, VggDeployError
from vgg_deploy.model import torchvision
from vgg_deploy.pipeline import load
from vgg_deploy.pipeline.load import LoadOptions, load_bundle

NAMES = tuple(f"class {n}" for n in range(10))


def weights_of(bundle: Bundle) -> str:
    return str(bundle.path(bundle.checkpoint))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_labels_of_a_file_that_has_its_own(
    tiny_bundle: Bundle, tmp_path: Path, mark: bytes
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(mark + "\n".join(NAMES).encode())
    options = LoadOptions(weights=weights_of(tiny_bundle), labels=labels)
    assert load_bundle(tmp_path / "b", options).card.labels == NAMES


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"arch": "vgg16"}, UsageError),
        ({"size": 224}, UsageError),
        ({"head": "torchvision"}, UsageError),
        ({"classes": 7}, RefusedInput),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_what_contradicts_the_weights(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    error: type[VggDeployError],
    by_name: bool,
) -> None:
    weights = weights_of(tiny_bundle)
    if by_name:
        loaded = torchvision.load_file(Path(weights))
        monkeypatch.setattr(load, "load_torchvision", lambda name: loaded)
        weights = "VGG11_Weights.IMAGENET1K_V1"
    with pytest.raises(error):
        load_bundle(tmp_path / "b", LoadOptions(weights=weights, **options))  # type: ignore[arg-type]
    spec = tiny_bundle.card.spec
    same = LoadOptions(weights=weights, arch=spec.arch, size=spec.size, head=spec.head, classes=10)
    load_bundle(tmp_path / "b", same)
