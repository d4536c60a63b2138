"""What is going to be trained: the request, its data, its network."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.sources import is_folder, open_dataset
from vgg_deploy.errors import UsageError
from vgg_deploy.spec import Head, ModelCard, ModelSpec, Preprocessing
from vgg_deploy.train.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The network, the data and how to train.

    ``data`` is the name of a data set or the path of a folder of images. With ``start``, a bundle,
    its network is fine-tuned: architecture, size and preprocessing are those of its weights.
    """

    arch: str = "vgg11"
    width: float = 0.25
    size: int = 64
    head: Head = "book"
    fc_width: int = 4096
    hidden: int = 2
    ceil_mode: bool = False
    data: str = "auto"
    data_dir: Path | None = None
    start: Path | None = None
    options: TrainOptions = field(default_factory=TrainOptions)


@dataclass(frozen=True)
class Plan:
    """A request with its data and network."""

    dataset: Dataset
    card: ModelCard
    source: Bundle | None  # whose weights are fine-tuned


def planned(request: TrainRequest) -> Plan:
    """Open the data and settle the network; nothing is written."""
    from vgg_deploy.train.setup import card_for

    if request.start is None:
        if request.options.freeze:
            raise UsageError(
                "random features cannot be frozen", "name what they are of: --from BUNDLE"
            )
        _spec(request, channels=3, classes=2)  # refused before a folder of images is decoded
        folder = is_folder(request.data)
        want = Preprocessing(
            size=request.size, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, resize=request.size
        )
        dataset = open_dataset(request.data, request.data_dir, want)
        channels = dataset.train.images.shape[3]
        spec = _spec(request, channels=channels, classes=len(dataset.labels))
        options = request.options
        trained = dataset.trained(options.max_images, options.validation)
        return Plan(dataset, card_for(spec, options.chosen, dataset, trained, cropped=folder), None)
    return _fine_tuning(request, request.start)


def _fine_tuning(request: TrainRequest, start: Path) -> Plan:
    source = open_bundle(start)
    source.check([source.checkpoint])
    old = source.card
    dataset = open_dataset(request.data, request.data_dir, old.preprocessing)
    spec = changed(old.spec, classes=len(dataset.labels), dropout=request.options.chosen.dropout)
    card = changed(old, spec=spec, labels=dataset.labels, dataset=dataset.name)
    return Plan(dataset, card, source)


def _spec(request: TrainRequest, *, channels: int, classes: int) -> ModelSpec:
    return ModelSpec.named(
        request.arch,
        width=request.width,
        size=request.size,
        channels=channels,
        classes=classes,
        fc_width=request.fc_width,
        hidden=request.hidden,
        head=request.head,
        ceil_mode=request.ceil_mode,
    )
