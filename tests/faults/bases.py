"""The networks that faults are planted in, made once and copied for each fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.export.networks import lively_bundle
from tests.faults.in_graph import MEAN, STD
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing
from vgg_deploy.train.options import TrainOptions


def card(arch: str, *, size: int = 32, resize: int | None = None, width: float = 1.0) -> ModelCard:
    """Three channels with unlike mean and std, so that nothing can be swapped unseen."""
    spec = ModelSpec.named(arch, size=size, channels=3, width=width, classes=10, fc_width=32)
    return ModelCard(
        spec=spec,
        preprocessing=Preprocessing(size=size, channels=3, mean=MEAN, std=STD, resize=resize),
        labels=tuple(f"class {i}" for i in range(10)),
    )


def trained(root: Path) -> Bundle:
    """A small network that has learned the sample, in fp32, fp16 and int8.

    Not standardised: its filters differ in size, so that a wrong scale matters.
    """
    request = TrainRequest(
        arch="1x8-1x16-2x32",
        width=1.0,
        size=32,
        fc_width=64,
        data="sample",
        options=TrainOptions(recipe="modern-bn", lr=0.02, flip=False, epochs=3),
    )
    bundle = train_bundle(root, request, replace=True)
    return export_bundle(bundle, ("onnx",), precisions=("fp16", "int8"))[0]


def lively(made: ModelCard, *formats: str) -> Callable[[Path], Bundle]:
    return lambda root: export_bundle(lively_bundle(root, made), formats or ("onnx",))[0]


BASES: Mapping[str, Callable[[Path], Bundle]] = {
    "plain": lively(card("1x8-1x16-3x32"), "onnx", "torchscript"),
    "norm": lively(card("1x8-2x16_bn")),
    "lrn": lively(card("vgg11_lrn", width=1 / 16)),
    "odd": lively(card("1x8-1x16-1x16", size=26)),
    "cropped": lively(card("1x8-1x16", size=16, resize=20)),
    "trained": trained,
}


@dataclass
class Bases:
    """Makes each base when it is first asked for."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def copy(self, name: str, root: Path) -> Bundle:
        """A bundle of one's own, yardsticks included."""
        if name not in self.made:
            bundle = BASES[name](self.folder / name)
            self.made[name] = bundle.root
        shutil.copytree(self.made[name], root)
        return open_bundle(root)
