"""One pass over the training images, and one over the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from vgg_deploy.data.preprocess import preprocess_torch
from vgg_deploy.errors import ResourceLimit, TrainingDiverged
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import Preprocessing
from vgg_deploy.train.auto_batch import is_out_of_memory, release
from vgg_deploy.train.distributed import World
from vgg_deploy.train.meter import Meter, StepFigures
from vgg_deploy.train.seeds import epoch_order, seed_of
from vgg_deploy.train.step import Images, Trainer

_TEST_BATCH = 256


@dataclass
class Progress:
    """Where a run is, and the sums of the epoch so far."""

    epoch: int = 0  # counted from 0
    batches: int = 0  # done in this epoch
    step: int = 0  # done in the run
    images: int = 0  # whose figures have arrived, in this epoch
    loss: float = 0.0  # their sum
    hits: int = 0
    lr: float = 0.0  # of the last step
    seconds: float = 0.0  # spent training in this epoch

    def next_epoch(self) -> Progress:
        """The beginning of the epoch after this one."""
        return Progress(epoch=self.epoch + 1, step=self.step)

    def add(self, figures: StepFigures) -> None:
        """Add a step's sums; ``TrainingDiverged`` when its loss is not finite."""
        self.loss += figures.loss
        self.hits += figures.hits
        self.images += figures.images
        require_finite(self.loss, "loss", f"in epoch {self.epoch + 1}, by step {self.batches}")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is asked and told after each step."""

    stop: Callable[[], bool]  # whether this process wishes to stop
    arrived: Callable[[StepFigures], None]
    saves: Callable[[bool], bool]  # whether ``after`` is going to save
    after: Callable[[bool], None]  # with whether some process wishes to stop; may raise


def train_epoch(
    trainer: Trainer, data: Images, progress: Progress, meter: Meter, steps: Steps
) -> None:
    """Train from where ``progress`` is to the end of its epoch.

    Raises ``TrainingDiverged`` at the first loss seen that is not finite.
    """
    trainer.network.train()
    order = epoch_order(len(data), trainer.seed, progress.epoch).to(trainer.device)
    batches = trainer.batches(order)
    whole = sum(map(len, batches))
    done = sum(map(len, batches[: progress.batches]))
    clock = time.perf_counter()
    for chosen in batches[progress.batches :]:
        middle = (done + len(chosen) / 2) / whole  # at a step's start the first one had no rate
        progress.lr = trainer.set_rate((progress.epoch + middle) / trainer.epochs)
        torch.manual_seed(seed_of(trainer.seed, "step", progress.step, trainer.world.rank))
        mine = trainer.world.part(chosen)
        sums = trainer.step(data.pixels_of(mine), data.labels[mine], len(chosen))
        done += len(chosen)
        progress.batches += 1
        progress.step += 1
        trainer.average(progress.step)
        arrived = meter.push(*sums, len(mine), stop=steps.stop())
        stopping = _told(progress, arrived, steps) or meter.stop_drained
        if trainer.world.size == 1:
            stopping = steps.stop()  # nobody to agree with
        if steps.saves(stopping):  # what the device still has to do counts
            _told(progress, meter.drain(), steps)
        progress.seconds += time.perf_counter() - clock
        steps.after(stopping)
        clock = time.perf_counter()
    _told(progress, meter.drain(), steps)
    progress.seconds += time.perf_counter() - clock


def _told(progress: Progress, arrived: Iterable[StepFigures], steps: Steps) -> bool:
    stopping = False
    for figures in arrived:
        progress.add(figures)
        steps.arrived(figures)
        stopping |= figures.stop
    return stopping


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What a network made of the test images."""

    loss: float  # mean
    accuracy: float  # 0..1
    predicted: torch.Tensor  # int64 [N] on the CPU
    probability: torch.Tensor  # float64 [N]: of the class predicted


@torch.inference_mode()
def evaluate(
    model: VGG,
    data: Images,
    p: Preprocessing,
    world: World | None = None,
    between: Callable[[], None] | None = None,
) -> Classified:
    """Classify the test images in fp32 and eval mode; ``between`` is called after every chunk.

    With several processes each takes its part, and all get the whole. Chunks that do not fit
    into memory are halved; ``ResourceLimit`` when not even one image does.
    """
    world = world or World()
    model.eval()
    device, count = data.pixels.device, len(data)
    predicted = torch.zeros(count, dtype=torch.int64, device=device)
    probability = torch.zeros(count, dtype=torch.float64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    mine = world.part(torch.arange(count, device=device))
    size, start = _TEST_BATCH, 0
    while start < len(mine):
        chosen = mine[start : start + size]
        try:
            pixels, labels = data.pixels_of(chosen), data.labels[chosen]
            part, best, classes = _classified(model, pixels, labels, p)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            release(error, device)
            size = _halved(len(chosen))
            continue
        loss += part
        probability[chosen], predicted[chosen] = best, classes
        start += len(chosen)
        if between:
            between()
    for part in (loss, predicted, probability):
        world.total(part)
    hits = int((predicted == data.labels).sum())
    return Classified(
        loss=float(loss) / count,
        accuracy=hits / count,
        predicted=predicted.cpu(),
        probability=probability.cpu(),
    )


def _classified(
    model: VGG, pixels: torch.Tensor, labels: torch.Tensor, p: Preprocessing
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Summed loss of some images, the probability of the class predicted, and that class."""
    x = preprocess_torch(pixels, p).contiguous(memory_format=torch.channels_last)
    logits = model(x)
    best = logits.double().softmax(1).max(1)
    return F.cross_entropy(logits, labels, reduction="sum"), best.values, best.indices


def _halved(size: int) -> int:
    if size <= 1:
        raise ResourceLimit(
            "not even one image fits into memory for testing",
            "use a smaller --size, --width or --arch",
        )
    return size // 2


def require_finite(value: float, what: str, where: str) -> None:
    """Raise ``TrainingDiverged`` for a value that is NaN or infinite."""
    if not math.isfinite(value):
        kind = "NaN" if math.isnan(value) else "infinite"
        raise TrainingDiverged(f"the {what} became {kind} {where}", "lower --lr")
