"""One pass over the training images, and one over the test images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from vgg_deploy.data.preprocess import preprocess_torch
from vgg_deploy.errors import TrainingDiverged
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import Preprocessing
from vgg_deploy.train.recipes import Recipe, learning_rate

_LOOK_EVERY = 20  # steps on a GPU, where every look at the loss waits for all that is enqueued
_TEST_BATCH = 256


@dataclass(frozen=True)
class Images:
    """A split on the device: uint8 ``[N, H, W, C]`` and int64 ``[N]``."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What all epochs of a run share."""

    model: VGG
    optimiser: torch.optim.Optimizer
    recipe: Recipe
    preprocessing: Preprocessing
    device: torch.device
    precision: str
    batch: int
    peak_lr: float
    epochs: int

    def autocast(self) -> AbstractContextManager[None]:
        """bf16 where the run asks for it; weights and their updates stay fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def batches(self, count: int, order: torch.Generator) -> Iterator[torch.Tensor]:
        """Random indices of ``count`` images; a last batch of one is left out, for batch norm."""
        pieces = torch.split(torch.randperm(count, generator=order), self.batch)
        yield from (p for p in pieces if len(p) > 1 or len(pieces) == 1)

    def step(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One update from a batch; its mean loss and its hits, still on the device."""
        x = preprocess_torch(pixels, self.preprocessing)
        self.optimiser.zero_grad()
        with self.autocast():
            logits = self.model(x.contiguous(memory_format=torch.channels_last))
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        loss.backward()
        self.optimiser.step()
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()


def train_epoch(
    trainer: Trainer,
    data: Images,
    epoch: int,
    order: torch.Generator,
    tell: Callable[[int, float | None], None],
) -> tuple[float, float, float]:
    """Mean loss, accuracy and last learning rate of one epoch (counted from 0).

    ``tell`` gets the images done in this epoch and the loss when it was looked at. Raises
    ``TrainingDiverged`` at the first loss seen that is not finite.
    """
    trainer.model.train()
    total_loss = torch.zeros((), device=trainer.device)
    hits = torch.zeros((), dtype=torch.int64, device=trainer.device)
    done, lr = 0, trainer.peak_lr
    look_every = 1 if trainer.device.type == "cpu" else _LOOK_EVERY
    for index, chosen in enumerate(trainer.batches(len(data), order)):
        lr = learning_rate(
            trainer.recipe, trainer.peak_lr, (epoch + done / len(data)) / trainer.epochs
        )
        for group in trainer.optimiser.param_groups:
            group["lr"] = lr
        on_device = chosen.to(trainer.device)
        loss, right = trainer.step(data.pixels[on_device], data.labels[on_device])
        total_loss += loss * len(chosen)  # a NaN or infinity once in here stays
        hits += right
        done += len(chosen)
        shown = None
        if index % look_every == 0:
            shown = float(loss)
            require_finite(float(total_loss), "loss", f"in epoch {epoch + 1}, step {index + 1}")
        tell(done, shown)
    require_finite(float(total_loss), "loss", f"in epoch {epoch + 1}, step {index + 1}")
    return float(total_loss) / done, int(hits) / done, lr


@torch.inference_mode()
def evaluate(model: VGG, data: Images, p: Preprocessing) -> tuple[float, float]:
    """Mean loss and accuracy on the test images, in fp32 and eval mode."""
    model.eval()
    loss, hits = 0.0, 0
    for pixels, labels in zip(
        torch.split(data.pixels, _TEST_BATCH), torch.split(data.labels, _TEST_BATCH), strict=True
    ):
        x = preprocess_torch(pixels, p).contiguous(memory_format=torch.channels_last)
        logits = model(x)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        hits += int((logits.argmax(1) == labels).sum())
    return loss / len(data), hits / len(data)


def require_finite(value: float, what: str, where: str) -> None:
    """Raise ``TrainingDiverged`` for a value that is NaN or infinite."""
    if not math.isfinite(value):
        kind = "NaN" if math.isnan(value) else "infinite"
        raise TrainingDiverged(f"the {what} became {kind} {where}", "lower --lr")
