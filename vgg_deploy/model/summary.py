"""What a network costs: the book's table, parameters, multiply-adds and memory per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from vgg_deploy.model.layers import FLOAT_BYTES, Layer, alexnet_layers, vgg_layers
from vgg_deploy.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Totals of a network, for one image where that applies."""

    params: int
    macs: int  # multiply-adds per image
    conv_macs: int
    fc_macs: int
    fc_params: int
    peak_activation_bytes: int  # inference: the largest input and output alive together
    saved_bytes: int  # training: what autograd keeps per image
    state_bytes: int  # training: weights, gradients and momentum, whatever the batch


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the book's table: a block, or one of the layers after the blocks."""

    name: str
    shape: tuple[int, ...]  # without the batch
    params: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's layers and what they cost."""

    name: str
    rows: tuple[Row, ...]
    layers: tuple[Layer, ...]
    cost: Cost
    notes: tuple[str, ...]

    @property
    def weight_layers(self) -> tuple[Layer, ...]:
        """The layers that the number in the network's name counts."""
        return tuple(layer for layer in self.layers if layer.kind in ("conv", "fc"))


def summarise(spec: ModelSpec) -> Summary:
    """Shapes and costs of a VGG, without torch and without weights."""
    return _summary(spec.arch, vgg_layers(spec), _notes(spec))


def summarise_alexnet(spec: ModelSpec) -> Summary:
    """The book's AlexNet for the same input and classes; ``UsageError`` below 63 px."""
    layers = alexnet_layers(spec.size, spec.channels, spec.classes)
    return _summary("alexnet", layers, ())


def against(spec: ModelSpec, other: str) -> Summary:
    """The network to compare with: ``alexnet``, or another architecture for the same input."""
    if other == "alexnet":
        return summarise_alexnet(spec)
    return summarise(
        ModelSpec.named(
            other,
            width=spec.width,
            size=spec.size,
            channels=spec.channels,
            classes=spec.classes,
            fc_width=spec.fc_width,
            head=spec.head,
            ceil_mode=spec.ceil_mode,
            hidden=spec.hidden,
        )
    )


def _summary(name: str, layers: Sequence[Layer], notes: tuple[str, ...]) -> Summary:
    return Summary(
        name=name, rows=_rows(layers), layers=tuple(layers), cost=_cost(layers), notes=notes
    )


def _rows(layers: Sequence[Layer]) -> tuple[Row, ...]:
    rows = []
    for group, members in groupby(layers, key=lambda layer: layer.group):
        inside = list(members)
        rows.append(
            Row(
                name=group,
                shape=inside[-1].shape,
                params=sum(layer.params for layer in inside),
                macs=sum(layer.macs for layer in inside),
            )
        )
    return tuple(rows)


def _cost(layers: Sequence[Layer]) -> Cost:
    params = sum(layer.params for layer in layers)
    fc = [layer for layer in layers if layer.kind == "fc"]
    macs = sum(layer.macs for layer in layers)
    fc_macs = sum(layer.macs for layer in fc)
    return Cost(
        params=params,
        macs=macs,
        conv_macs=macs - fc_macs,
        fc_macs=fc_macs,
        fc_params=sum(layer.params for layer in fc),
        peak_activation_bytes=max(
            before.output_bytes + after.output_bytes for before, after in pairwise(layers)
        ),
        saved_bytes=sum(layer.saved_bytes for layer in layers),
        state_bytes=3 * FLOAT_BYTES * params,
    )


def _notes(spec: ModelSpec) -> tuple[str, ...]:
    """What happens at odd maps, and where the book's missing layers are."""
    notes = []
    for block, side in enumerate(spec.map_sizes[:-1], start=1):
        if side % 2:
            what = "kept by ceil mode" if spec.ceil_mode else "dropped, as torch's pooling does"
            notes.append(
                f"pool{block} halves an odd {side}×{side} map: its last row and column are {what}"
            )
    convs = sum(n for n, _ in spec.conv_arch)
    notes.append(
        f"{spec.weight_layers} weight layers: {convs} convolutions inside "
        f"{len(spec.conv_arch)} blocks, and {len(spec.fc_layers)} fully connected"
    )
    return tuple(notes)
