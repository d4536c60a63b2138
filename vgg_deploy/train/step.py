"""One update of the weights from one batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from vgg_deploy.data.preprocess import preprocess_torch
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import Preprocessing
from vgg_deploy.train.augment import augmented
from vgg_deploy.train.averages import Averages
from vgg_deploy.train.compiled import backward_of
from vgg_deploy.train.distributed import World
from vgg_deploy.train.phases import Phases
from vgg_deploy.train.recipes import Recipe, learning_rate


@dataclass(frozen=True)
class Images:
    """A split on the device: uint8 ``[M, H, W, C]`` and int64 ``[N]``.

    With ``places`` the N images are some of the M: parts of one split share its memory.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor | None = None  # int64 [N]: where in ``pixels`` each image is
    files: tuple[str, ...] = ()  # names of test images that are files

    def __len__(self) -> int:
        return len(self.labels)

    def pixels_of(self, chosen: torch.Tensor) -> torch.Tensor:
        """Copies of the images ``chosen`` (int64, of 0..N-1)."""
        return self.pixels[chosen if self.places is None else self.places[chosen]]

    def first(self, count: int) -> Images:
        """The first so many images, without a copy of them."""
        places = None if self.places is None else self.places[:count]
        return Images(self.pixels, self.labels[:count], places, self.files[:count])

    def where(self, marked: torch.Tensor) -> Images:
        """The images that are marked (bool ``[N]``), in their order, without a copy of them."""
        places = marked.nonzero().flatten()
        return Images(
            self.pixels,
            self.labels[places],
            places if self.places is None else self.places[places],
        )


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What all steps of a run share."""

    model: VGG
    network: nn.Module  # the model as it is computed: reordered, and parallel where it is
    optimiser: torch.optim.Optimizer
    recipe: Recipe  # less what is not done to this network
    init: str  # where the weights began, for people
    preprocessing: Preprocessing
    device: torch.device
    world: World
    precision: str
    batch: int  # of all processes together
    accumulate: int
    peak_lr: float
    epochs: int
    seed: int
    phases: Phases
    averages: Averages | None = None

    @property
    def deployed(self) -> VGG:
        """The network that is tested and saved: that of the averages where there are some."""
        return self.averages.model if self.averages else self.model

    def autocast(self) -> AbstractContextManager[None]:
        """bf16 where the run asks for it; weights and their updates stay fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def batches(self, order: torch.Tensor) -> list[torch.Tensor]:
        """The batches of an epoch in ``order``.

        A last one with less than two images for every process is left out: batch norm cannot
        be trained with one.
        """
        pieces = list(torch.split(order, self.batch))
        if len(pieces) > 1 and len(pieces[-1]) < 2 * self.world.size:
            pieces.pop()
        return pieces

    def set_rate(self, progress: float) -> float:
        """The learning rate at a share of the whole training, given to the optimiser."""
        lr = learning_rate(self.recipe, self.peak_lr, progress)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return lr

    def step(
        self, pixels: torch.Tensor, labels: torch.Tensor, images: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One update from this process's part of a batch of ``images``.

        Gives this part's summed loss and its hits, still on the device. The gradient is that
        of the mean over the whole batch, however it is divided.
        """
        self.optimiser.zero_grad()
        loss = torch.zeros((), device=self.device)
        hits = torch.zeros((), dtype=torch.int64, device=self.device)
        pieces = min(self.accumulate, len(labels))
        for index, (x, y) in enumerate(
            zip(pixels.tensor_split(pieces), labels.tensor_split(pieces), strict=True)
        ):
            with self._gradients_kept_here(last=index == pieces - 1):
                piece_loss, piece_hits = self.backward(x, y, images)
            loss += piece_loss
            hits += piece_hits
        with self.phases("optimiser"):
            self.optimiser.step()
        return loss, hits

    def average(self, step: int) -> None:
        """Take the weights after a step, counted from 1, into their averages, if there are some."""
        if self.averages:
            with self.phases("averages"):
                self.averages.update(step)

    def backward(
        self, pixels: torch.Tensor, labels: torch.Tensor, images: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradient of some images' share of the mean loss; their summed loss and hits."""
        x = preprocess_torch(augmented(pixels, self.recipe), self.preprocessing)
        with self.phases("forward and loss"):
            with self.autocast():
                logits = self.network(x.contiguous(memory_format=torch.channels_last))
            logits = logits.float()
            loss = F.cross_entropy(
                logits, labels, reduction="sum", label_smoothing=self.recipe.label_smoothing
            )
        with self.phases("backward"), backward_of(self.network, x.shape):
            # torch averages over the processes: times their number it is the sum
            (loss * (self.world.size / images)).backward()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _gradients_kept_here(self, *, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once per step, with the last piece."""
        if last or self.world.size == 1:
            return nullcontext()
        sync: AbstractContextManager[None] = self.network.no_sync()  # type: ignore[operator]
        return sync
