"""Every layer of a network with its shape and cost, counted without torch.

Multiply-adds are those of convolutions and fully connected layers, without biases, as
torchvision's published figures count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from vgg_deploy.errors import UsageError
from vgg_deploy.spec import ModelSpec

Kind = Literal["conv", "norm", "relu", "pool", "flatten", "fc", "dropout"]
FLOAT_BYTES = 4  # fp32
_INDEX_BYTES = 8  # max pooling keeps an int64 index per output for its gradient


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer for one image; ``shape`` is its output without the batch."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    params: int = 0
    macs: int = 0  # multiply-adds
    group: str = ""  # the row of the book's table this layer belongs to
    saved_bytes: int = 0  # what autograd keeps of it for the backward pass, fp32

    @property
    def output_bytes(self) -> int:
        """Size of the output in fp32."""
        return prod(self.shape) * FLOAT_BYTES


@dataclass
class _Trace:
    """Follows one image through a network and notes every layer."""

    shape: tuple[int, ...]
    layers: list[Layer] = field(default_factory=list)
    group: str = ""

    def conv(self, name: str, channels: int, kernel: int, stride: int = 1, pad: int = 0) -> None:
        depth, height, width = self.shape
        saved = prod(self.shape) * FLOAT_BYTES if self._input_is_new() else 0
        side_h, side_w = ((s + 2 * pad - kernel) // stride + 1 for s in (height, width))
        per_output = depth * kernel * kernel
        self._add(
            Layer(
                name=name,
                kind="conv",
                shape=(channels, side_h, side_w),
                params=channels * (per_output + 1),
                macs=channels * side_h * side_w * per_output,
                saved_bytes=saved,
            )
        )

    def fc(self, name: str, features: int) -> None:
        inputs = self.shape[0]
        self._add(
            Layer(
                name=name,
                kind="fc",
                shape=(features,),
                params=features * (inputs + 1),
                macs=features * inputs,
                saved_bytes=inputs * FLOAT_BYTES if self._input_is_new() else 0,
            )
        )

    def batch_norm(self, name: str) -> None:
        # keeps its input; mean and inverse deviation are per batch, not per image
        saved = prod(self.shape) * FLOAT_BYTES
        params = 2 * self.shape[0]
        self._add(Layer(name=name, kind="norm", shape=self.shape, params=params, saved_bytes=saved))

    def lrn(self, name: str) -> None:
        # torch keeps the squares padded by 2 channels on each side, their window sums, the
        # denominator and its power
        depth, *sides = self.shape
        self.same(name, "norm", (4 * depth + 4) * prod(sides) * FLOAT_BYTES)

    def same(self, name: str, kind: Kind, saved_bytes: int = 0) -> None:
        self._add(Layer(name=name, kind=kind, shape=self.shape, saved_bytes=saved_bytes))

    def relu(self, name: str) -> None:
        self.same(name, "relu", prod(self.shape) * FLOAT_BYTES)  # keeps its output

    def pool(self, name: str, kernel: int, stride: int, *, ceil: bool = False) -> None:
        depth, *sides = self.shape
        extra = stride - 1 if ceil else 0
        out = [(side - kernel + extra) // stride + 1 for side in sides]
        if min(out) < 1:
            raise UsageError(
                f"{name} gets a map of {sides[0]}×{sides[1]}, too small for its "
                f"{kernel}×{kernel} window",
                "use a larger --size",
            )
        kept = depth * prod(out) * _INDEX_BYTES  # its input is kept already, by the ReLU
        self._add(Layer(name=name, kind="pool", shape=(depth, *out), saved_bytes=kept))

    def average(self, side: int) -> None:
        pools = self.shape[1] % side == 0 and self.shape[1] != side  # else nothing, or products
        kept = prod(self.shape) * FLOAT_BYTES if pools else 0
        shape = (self.shape[0], side, side)
        self._add(Layer(name="avgpool", kind="pool", shape=shape, saved_bytes=kept))

    def flatten(self) -> None:
        self.shape = (prod(self.shape),)
        self._add(Layer(name="flatten", kind="flatten", shape=self.shape))

    def _input_is_new(self) -> bool:
        """Whether no earlier layer keeps the tensor that comes in now."""
        last = [layer for layer in self.layers if layer.kind != "flatten"][-1:]
        return not last or last[0].kind in ("pool", "dropout", "conv", "fc", "norm")

    def _add(self, layer: Layer) -> None:
        self.shape = layer.shape
        self.layers.append(Layer(**{**layer.__dict__, "group": self.group or layer.name}))


def vgg_layers(spec: ModelSpec) -> list[Layer]:
    """All layers of a VGG in order; convolutions are named ``conv3_1`` as in the literature."""
    trace = _Trace((spec.channels, spec.size, spec.size))
    pointwise = spec.pointwise or (0,) * len(spec.conv_arch)
    for block, (num_convs, channels) in enumerate(spec.blocks, start=1):
        trace.group = f"block{block}"
        for index in range(1, num_convs + 1):
            suffix = f"{block}_{index}"
            kernel = 1 if index > num_convs - pointwise[block - 1] else 3
            trace.conv(f"conv{suffix}", channels, kernel, pad=kernel // 2)
            if spec.batch_norm:
                trace.batch_norm(f"bn{suffix}")
            trace.relu(f"relu{suffix}")
            if spec.lrn and block == index == 1:
                trace.lrn("lrn1_1")
        trace.pool(f"pool{block}", 2, 2, ceil=spec.ceil_mode)
    trace.group = ""
    if spec.head != "book":
        trace.average(spec.pooled_size)
    trace.flatten()
    _classifier(trace, spec.fc_layers, spec.fc_width, spec.classes)
    return trace.layers


def alexnet_layers(size: int, channels: int, classes: int) -> list[Layer]:
    """AlexNet as in *Dive into Deep Learning* §8.1, for the comparison of the exercises."""
    trace = _Trace((channels, size, size))
    for index, (depth, kernel, stride, pad, pooled) in enumerate(
        (
            (96, 11, 4, 1, True),
            (256, 5, 1, 2, True),
            (384, 3, 1, 1, False),
            (384, 3, 1, 1, False),
            (256, 3, 1, 1, True),
        ),
        start=1,
    ):
        trace.group = f"stage{index}"
        if trace.shape[1] + 2 * pad < kernel:
            raise UsageError(
                f"AlexNet's conv{index} needs a larger map than {trace.shape[1]} px",
                "use a larger --size",
            )
        trace.conv(f"conv{index}", depth, kernel, stride, pad)
        trace.relu(f"relu{index}")
        if pooled:
            trace.pool(f"pool{index}", 3, 2)
    trace.group = ""
    trace.flatten()
    _classifier(trace, ("fc6", "fc7", "fc8"), 4096, classes)
    return trace.layers


def _classifier(trace: _Trace, names: Sequence[str], width: int, classes: int) -> None:
    for name in names[:-1]:
        number = name.removeprefix("fc")
        trace.fc(name, width)
        trace.relu(f"relu{number}")
        trace.same(f"drop{number}", "dropout", prod(trace.shape) * FLOAT_BYTES)  # the mask
    trace.fc(names[-1], classes)
