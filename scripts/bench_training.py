"""Training speed: this package's loop beside the book's, in one process, block by block.

    python scripts/bench_training.py --size 224 -o docs/results/training_speed.json
    python scripts/bench_training.py --device cuda --steps 50 --compile -o gpu.json

The book's loop (Dive into Deep Learning, §7.2 and its Trainer): fp32, NCHW, each image resized
by PIL and made a tensor in a DataLoader with 4 workers, SGD. On a GPU that has TF32 torch's default
convolves in it, which the book leaves as it is; the file says so. Both train the same network from
Fashion-MNIST (or its sample) at the same batch size. A block is a few untimed and timed
steps of each loop and what the machine can do: large matrix products in fp32 and bf16. With
``--compile`` ours runs once more as ``train --compile`` would have it. A block during which other
processes were busy is stored and does not count.

Counted per image: 3 × 2 × the multiply-adds of the forward pass (forward, gradient by weights,
gradient by inputs). Resizing, pooling, ReLU and the optimiser are not counted, though their time
is; the first layer needs no gradient by its input, which overstates the share by about 0.5 %.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median

import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader
from torch.utils.data import Dataset as TorchDataset

from scripts.neighbours import MAX_OTHERS, Neighbours
from vgg_deploy import environment, jsonio
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.fashion_mnist import DATASETS, load_dataset
from vgg_deploy.errors import MeasurementNotValid, VggDeployError
from vgg_deploy.libraries import tf32_switches
from vgg_deploy.model.summary import summarise
from vgg_deploy.spec import ModelSpec
from vgg_deploy.train.distributed import World
from vgg_deploy.train.epoch import Progress, Steps, train_epoch
from vgg_deploy.train.hardware import choose_device, tuned
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.meter import Meter, StepFigures
from vgg_deploy.train.options import DEVICES, TrainOptions
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import card_for, initial_model, place
from vgg_deploy.train.step import Images, Trainer

BOOK_WORKERS = 4
WARM_UP = 2  # steps; the book's workers have filled their queue by then
GEMM_SIDES = {"cpu": (2048, 4096), "cuda": (4096, 8192)}


@dataclass(frozen=True, kw_only=True)
class Block:
    """One turn of everything."""

    book: float  # examples/s
    ours: float
    compiled: float | None = None  # ours with --compile
    gemm_fp32: float  # GFLOP/s, best of the sides
    gemm_bf16: float
    others: float | None  # share of all cores that other processes took; None: not known

    @property
    def undisturbed(self) -> bool:
        """Whether this block counts; decided by the neighbours alone, not by its figures."""
        return self.others is None or self.others <= MAX_OTHERS


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """The result file; figures are of the undisturbed blocks."""

    what: str
    made_at: str
    environment: environment.Environment
    threads: int
    device: str = "cpu"
    arch: str
    width: float
    size: int
    batch: int
    dataset: str
    timed_steps: Mapping[str, int]  # per block
    precision: str  # of our loop; the book's is fp32, but for:
    book_tf32: tuple[str, ...] = ()  # where torch's defaults let it use TF32 on this device
    blocks: tuple[Block, ...]  # all of them, disturbed ones too
    used_blocks: int
    ratio: float  # geometric mean of ours / book within blocks
    ratio_range: tuple[float, float]
    compiled_ratio: float | None = None  # geometric mean of compiled / ours within blocks
    compiled_range: tuple[float, float] | None = None
    book_examples_per_second: float  # medians, as all that follow
    ours_examples_per_second: float
    gemm_fp32_gflops: float
    gemm_bf16_gflops: float
    flops_per_image: float
    ours_gflops: float
    share_of_gemm: float  # of the GEMM rate at our precision
    counted: str


class BookImages(TorchDataset[tuple[torch.Tensor, int]]):
    """Images as the book feeds them: PIL, ``Resize``, ``ToTensor``."""

    def __init__(self, split: Split, size: int) -> None:
        from torchvision import transforms

        self._split = split
        self._transform = transforms.Compose(
            [transforms.Resize((size, size)), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self._split.images[index, :, :, 0])
        return self._transform(image), int(self._split.labels[index])


class BookLoop:
    """The book's training loop."""

    def __init__(self, spec: ModelSpec, data: Dataset, batch: int, device: torch.device) -> None:
        self._device = device
        self._model = initial_model(spec, RECIPES["book"]).to(device)
        self._optimiser = torch.optim.SGD(self._model.parameters(), lr=0.01)
        self._images = BookImages(data.train, spec.size)
        self._batch = batch

    def block(self, steps: int) -> float:
        """Examples per second of ``steps`` timed steps."""
        batches = self._batches(WARM_UP + steps)
        for _ in range(WARM_UP):
            self._step(next(batches))
        start, done = time.perf_counter(), 0
        for _ in range(steps):
            done += self._step(next(batches))
        return done / (time.perf_counter() - start)

    def _batches(self, count: int) -> Iterator[list[torch.Tensor]]:
        """From one ``DataLoader``: to start another would fall into the timed steps."""
        times = -(-count * self._batch // len(self._images))
        images: TorchDataset[tuple[torch.Tensor, int]] = ConcatDataset([self._images] * times)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # four workers on fewer cores: as in the book
            yield from DataLoader(images, self._batch, shuffle=True, num_workers=BOOK_WORKERS)

    def _step(self, batch: list[torch.Tensor]) -> int:
        images, labels = (part.to(self._device) for part in batch)
        loss = torch.nn.functional.cross_entropy(self._model(images), labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        float(loss)  # the book draws it, which also waits for a GPU
        return len(labels)


class OurLoop:
    """``vgg_deploy.train`` with the modern recipe."""

    def __init__(
        self,
        spec: ModelSpec,
        data: Dataset,
        batch: int,
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        card = card_for(spec, RECIPES["modern"], data)
        options = TrainOptions(
            batch=batch, lr=0.001, device=device.type, epochs=1, compile=compiled
        )
        self.trainer: Trainer = make_trainer(card, options, device)
        self._device = device
        self._data = Images(*place(data.train, card, device))
        self._order = torch.Generator().manual_seed(0)

    def block(self, steps: int) -> float:
        """Examples per second of ``steps`` timed steps."""
        with tuned(self._device):
            self._run(WARM_UP)
            _wait(self._device)
            start = time.perf_counter()
            done = self._run(steps)
            _wait(self._device)
            return done / (time.perf_counter() - start)

    def _run(self, steps: int) -> int:
        count = steps * self.trainer.batch
        chosen = torch.randint(len(self._data), (count,), generator=self._order).to(self._device)
        some = Images(self._data.pixels_of(chosen), self._data.labels[chosen])
        asked = Steps(
            stop=lambda: False, arrived=_unheard, saves=lambda _stopping: False, after=_unheard
        )
        train_epoch(self.trainer, some, Progress(), Meter(self._device, World()), asked)
        return count


def _unheard(_figures: StepFigures | bool) -> None:
    """Nobody watches the bench's steps."""


def _wait(device: torch.device) -> None:
    """Until a GPU has done what was enqueued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def book_tf32(device: torch.device) -> tuple[str, ...]:
    """What the book's fp32 uses TF32 for, as the switches stand outside our loop."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8:
        return ()
    with tf32_switches():
        allowed = {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matrix products": torch.backends.cuda.matmul.allow_tf32,
        }
    return tuple(name for name, on in allowed.items() if on)


def gemm_gflops(dtype: torch.dtype, device: torch.device) -> float:
    """The best rate of a few large square matrix products."""
    best = 0.0
    for side in GEMM_SIDES[device.type]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = a @ b
        for _ in range(4):
            _wait(device)
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            _wait(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def run_block(
    book: BookLoop,
    ours: OurLoop,
    compiled: OurLoop | None,
    steps: Mapping[str, int],
    device: torch.device,
) -> Block:
    """The loops and the matrix products, one after the other."""
    with Neighbours() as neighbours:
        slow, fast = book.block(steps["book"]), ours.block(steps["ours"])
        made = compiled.block(steps["ours"]) if compiled else None
        fp32, bf16 = (gemm_gflops(kind, device) for kind in (torch.float32, torch.bfloat16))
    return Block(
        book=slow,
        ours=fast,
        compiled=made,
        gemm_fp32=fp32,
        gemm_bf16=bf16,
        others=neighbours.share,
    )


def measure(
    spec: ModelSpec,
    data: Dataset,
    *,
    batch: int,
    steps: Mapping[str, int],
    blocks: int,
    device: torch.device,
    compiled: bool = False,
) -> TrainingSpeed:
    """Run blocks until so many were undisturbed, or four times as many were run.

    Raises ``MeasurementNotValid`` when no more than half of what was asked for was undisturbed.
    """
    torch.manual_seed(0)
    book = BookLoop(spec, data, batch, device)
    ours = OurLoop(spec, data, batch, device)
    made = OurLoop(spec, data, batch, device, compiled=True) if compiled else None
    if made:
        made.block(1)  # compiles
    rows: list[Block] = []
    while sum(row.undisturbed for row in rows) < blocks and len(rows) < 4 * blocks:
        rows.append(run_block(book, ours, made, steps, device))
        print(_line(len(rows), rows[-1]), flush=True)
    used = [row for row in rows if row.undisturbed]
    if len(used) <= blocks / 2:
        raise MeasurementNotValid(
            f"other processes were busy in {len(rows) - len(used)} of {len(rows)} blocks",
            "let nothing else run and try again",
        )
    return _result(spec, data, ours.trainer, steps, rows)


def _line(number: int, row: Block) -> str:
    made = "" if row.compiled is None else f", compiled {row.compiled:.1f}"
    others = "" if row.others is None else f"; others took {row.others:.0%}"
    return (
        f"block {number}: book {row.book:.1f}, ours {row.ours:.1f} examples/s "
        f"({row.ours / row.book:.2f}×){made}; GEMM {row.gemm_fp32:.0f} fp32, "
        f"{row.gemm_bf16:.0f} bf16 GFLOP/s{others}{'' if row.undisturbed else ': not counted'}"
    )


def _result(
    spec: ModelSpec,
    data: Dataset,
    trainer: Trainer,
    steps: Mapping[str, int],
    rows: Sequence[Block],
) -> TrainingSpeed:
    used = [row for row in rows if row.undisturbed]
    ratios = [row.ours / row.book for row in used]
    made = [row.compiled / row.ours for row in used if row.compiled]
    flops = 6.0 * summarise(spec).cost.macs
    ours = median(row.ours for row in used)
    fp32, bf16 = median(row.gemm_fp32 for row in used), median(row.gemm_bf16 for row in used)
    reached = ours * flops / 1e9
    return TrainingSpeed(
        what="training, this package's loop beside the book's",
        made_at=environment.now(),
        environment=environment.capture(),
        threads=torch.get_num_threads(),
        device=trainer.device.type,
        arch=spec.arch,
        width=spec.width,
        size=spec.size,
        batch=trainer.batch,
        dataset=data.name,
        timed_steps=steps,
        precision=trainer.precision,
        book_tf32=book_tf32(trainer.device),
        blocks=tuple(rows),
        used_blocks=len(used),
        ratio=geometric_mean(ratios),
        ratio_range=(min(ratios), max(ratios)),
        compiled_ratio=geometric_mean(made) if made else None,
        compiled_range=(min(made), max(made)) if made else None,
        book_examples_per_second=median(row.book for row in used),
        ours_examples_per_second=ours,
        gemm_fp32_gflops=fp32,
        gemm_bf16_gflops=bf16,
        flops_per_image=flops,
        ours_gflops=reached,
        share_of_gemm=reached / (bf16 if trainer.precision == "bf16" else fp32),
        counted="3 × 2 × forward multiply-adds of convolutions and fully connected layers",
    )


def main() -> None:
    """Parse, measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arch", default="vgg11")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of the book per block")
    parser.add_argument("--blocks", type=int, default=5, help="undisturbed blocks wanted")
    parser.add_argument("--data", choices=DATASETS, default="auto")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--compile", action="store_true", help="time train --compile, too")
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    o = parser.parse_args()
    spec = ModelSpec.named(o.arch, width=o.width, size=o.size, channels=1, classes=10)
    steps = {"warm_up": WARM_UP, "book": o.steps, "ours": 4 * o.steps}
    try:
        device = choose_device(o.device)
        data = load_dataset(o.data)
        result = measure(
            spec,
            data,
            batch=o.batch,
            steps=steps,
            blocks=o.blocks,
            device=device,
            compiled=o.compile,
        )
    except VggDeployError as error:
        print(f"error: {error.cause}\nremedy: {error.remedy}", file=sys.stderr)
        sys.exit(error.exit_code)
    low, high = result.ratio_range
    print(
        f"{result.ratio:.2f}× the book's loop ({low:.2f} to {high:.2f}); {result.ours_gflops:.0f} "
        f"GFLOP/s, {result.share_of_gemm:.0%} of this machine's {result.precision} GEMM rate"
        + (f"; compiled {result.compiled_ratio:.2f}× ours" if result.compiled_ratio else "")
    )
    if o.output:
        jsonio.save(o.output, result)


if __name__ == "__main__":
    main()
