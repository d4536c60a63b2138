"""Apps of a stranger, each with one mistake; written with torch, and sharing no code with ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, pad

from vgg_deploy.libraries import import_torchvision

MEAN, STD, SIZE = (0.5, 0.4, 0.3), (0.3, 0.2, 0.25), 32
RESIZE = 37  # the shorter side, where there is a centre crop
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Network = Callable[[torch.Tensor], torch.Tensor]  # [1, 3, S, S] to logits [1, classes]
Outputs = tuple[torch.Tensor, torch.Tensor]  # logits and probabilities of one image
App = Callable[[Network, torch.Tensor], Outputs]  # of an image [H, W, 3], uint8


def planar(image: torch.Tensor) -> torch.Tensor:
    return image.permute(2, 0, 1)[None].float()


def resized(image: torch.Tensor, *, antialias: bool = True) -> torch.Tensor:
    return interpolate(planar(image), (SIZE, SIZE), mode="bilinear", antialias=antialias)


def cropped(image: torch.Tensor, resize: int = RESIZE) -> torch.Tensor:
    """As torchvision's own presets do it."""
    transforms = import_torchvision("torchvision.transforms.v2.functional")
    scaled = transforms.resize(planar(image), [resize], antialias=True)
    result: torch.Tensor = transforms.center_crop(scaled, [SIZE, SIZE])
    return result


def letterboxed(image: torch.Tensor) -> torch.Tensor:
    height, width = image.shape[:2]
    more = max(height, width)
    top, left = (more - height) // 2, (more - width) // 2
    return resized(pad(image, (0, 0, left, more - width - left, top, more - height - top)))


def asymmetric(image: torch.Tensor) -> torch.Tensor:
    """As ONNX's Resize does it with ``coordinate_transformation_mode="asymmetric"``."""
    x = planar(image)
    for axis in (2, 3):
        size = x.shape[axis]
        place = torch.arange(SIZE) * (size / SIZE)
        below = place.long().clamp(max=size - 1)
        above = (below + 1).clamp(max=size - 1)
        share = (place - below).reshape((-1, 1) if axis == 2 else (1, -1))
        x = x.index_select(axis, below) * (1 - share) + x.index_select(axis, above) * share
    return x


def grey(image: torch.Tensor) -> torch.Tensor:
    pillow = Image.fromarray(image.numpy()).convert("L").convert("RGB")
    return torch.from_numpy(np.array(pillow))


def normal(
    x: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> torch.Tensor:
    shift, scale = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))
    return (x - shift) / scale


def plain(logits: torch.Tensor) -> Outputs:
    return logits, logits.softmax(1)


def of(levels: Callable[[torch.Tensor], torch.Tensor]) -> App:
    """All is right but for how the grey levels [1, 3, S, S] come from the image."""
    return lambda net, image: plain(net(normal(levels(image) / 255)))


def fed(given: Callable[[torch.Tensor], torch.Tensor]) -> App:
    """All is right but for what the network gets in place of resized grey levels."""
    return lambda net, image: plain(net(given(resized(image))))


def told(outputs: Callable[[torch.Tensor], Outputs]) -> App:
    """All is right but for what is made of the logits."""
    return lambda net, image: outputs(net(normal(resized(image) / 255)))


class Late:
    """Reads the network's answer before it is there: that of the image before."""

    def __init__(self) -> None:
        self.answer: Outputs | None = None

    def __call__(self, net: Network, image: torch.Tensor) -> Outputs:
        before, self.answer = self.answer, RIGHT(net, image)
        return before or self.answer


RIGHT: App = of(resized)
RIGHT_WITH_CROP: App = of(cropped)
PLANTED: Mapping[str, App] = {
    "bgr": of(lambda image: resized(image.flip(2))),
    "not-normalized": fed(lambda x: x / 255),
    "normalized-twice": fed(lambda x: normal(normal(x / 255))),
    "not-scaled": fed(lambda x: x),
    "scale-forgotten": fed(normal),
    "scaled-twice": fed(lambda x: normal(x / 255 / 255)),
    "minus-one-to-one": fed(lambda x: x / 127.5 - 1),
    "imagenet-statistics": fed(lambda x: normal(x / 255, *IMAGENET)),
    "no-antialias": of(lambda image: resized(image, antialias=False)),
    "nearest": of(lambda image: interpolate(planar(image), (SIZE, SIZE))),
    "align-corners": of(
        lambda image: interpolate(planar(image), (SIZE, SIZE), mode="bilinear", align_corners=True)
    ),
    "asymmetric": of(asymmetric),
    "resized-as-bytes": of(lambda image: resized(image).round()),
    "nhwc-as-nchw": of(lambda image: resized(image).permute(0, 2, 3, 1).reshape(1, 3, SIZE, SIZE)),
    "transposed": of(lambda image: resized(image).transpose(2, 3)),
    "sides-exchanged": of(lambda image: resized(image.reshape(image.shape[1], image.shape[0], 3))),
    "upside-down": of(lambda image: resized(image.flip(0))),
    "mirrored": of(lambda image: resized(image.flip(1))),
    "inverted": of(lambda image: 255 - resized(image)),
    "grey": of(lambda image: resized(grey(image))),
    "cropped": of(lambda image: cropped(image, SIZE)),
    "letterboxed": of(letterboxed),
    "no-image": fed(torch.zeros_like),
    "double-softmax": told(lambda logits: (logits, logits.softmax(1).softmax(1))),
    "no-softmax": told(lambda logits: (logits, logits)),
    "probabilities-as-logits": told(lambda logits: (logits.softmax(1), logits.softmax(1))),
    "log-softmax": told(lambda logits: (logits.log_softmax(1), logits.softmax(1))),
    "sigmoid": told(lambda logits: (logits, logits.sigmoid())),
    "classes-reordered": told(lambda logits: plain(logits.roll(3, 1))),
    "images-mixed-up": Late(),
}
PLANTED_WITH_CROP: Mapping[str, App] = {"squashed": RIGHT}
