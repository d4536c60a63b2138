"""Training speed: this package's loop beside the book's, in one process, block by block.

    python scripts/bench_training.py --size 224 -o docs/results/training_speed.json

The book's loop (Dive into Deep Learning, §7.2 and its Trainer): fp32, NCHW, each image resized
by PIL and made a tensor in a DataLoader with 4 workers, SGD. Both train the same network from
Fashion-MNIST (or its sample) at the same batch size. A block is a few untimed and a few timed
steps of one loop; blocks of the two alternate, and so do measurements of what the machine can
do: large matrix products in fp32 and bf16.

Counted per image: 3 × 2 × the multiply-adds of the forward pass (forward, gradient by weights,
gradient by inputs). Resizing, pooling, ReLU and the optimiser are not counted, though their time
is; the first layer needs no gradient by its input, which overstates the share by about 0.5 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vgg_deploy import environment, jsonio
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.fashion_mnist import DATASETS, load_dataset
from vgg_deploy.model.summary import summarise
from vgg_deploy.spec import ModelSpec
from vgg_deploy.train.epoch import Images, Trainer, train_epoch
from vgg_deploy.train.hardware import tuned
from vgg_deploy.train.loop import make_trainer
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import card_for, initial_model, place

CPU = torch.device("cpu")
BOOK_WORKERS = 4
WARM_UP = 2  # steps; the book's workers have filled their queue by then
GEMM_SIDES = (2048, 4096)


@dataclass(frozen=True, kw_only=True)
class TrainingSpeed:
    """The result file."""

    what: str
    made_at: str
    environment: environment.Environment
    threads: int
    load_average: tuple[float, float]  # of the machine over a minute, before and after
    arch: str
    width: float
    size: int
    batch: int
    dataset: str
    timed_steps: int  # per block
    precision: str  # of our loop; the book's is fp32
    book_examples_per_second: tuple[float, ...]  # one per block
    ours_examples_per_second: tuple[float, ...]
    ratios: tuple[float, ...]
    ratio: float  # geometric mean
    gemm_fp32_gflops: tuple[float, ...]  # best of the sides, one per block
    gemm_bf16_gflops: tuple[float, ...]
    flops_per_image: float
    ours_gflops: float  # at the median block
    share_of_gemm: float  # of the GEMM rate at our precision, medians
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

    def __init__(self, spec: ModelSpec, data: Dataset, batch: int) -> None:
        self._model = initial_model(spec, RECIPES["book"])
        self._optimiser = torch.optim.SGD(self._model.parameters(), lr=0.01)
        self._images = BookImages(data.train, spec.size)
        self._batch = batch

    def block(self, steps: int) -> float:
        """Examples per second of ``steps`` timed steps."""
        batches = self._batches()
        for _ in range(WARM_UP):
            self._step(next(batches))
        start, done = time.perf_counter(), 0
        for _ in range(steps):
            done += self._step(next(batches))
        return done / (time.perf_counter() - start)

    def _batches(self) -> Iterator[list[torch.Tensor]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # four workers on fewer cores: as in the book
            while True:
                yield from DataLoader(
                    self._images, self._batch, shuffle=True, num_workers=BOOK_WORKERS
                )

    def _step(self, batch: list[torch.Tensor]) -> int:
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(self._model(images), labels)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        float(loss)  # the book draws it
        return len(labels)


class OurLoop:
    """``vgg_deploy.train`` with the modern recipe."""

    def __init__(self, spec: ModelSpec, data: Dataset, batch: int) -> None:
        card = card_for(spec, RECIPES["modern"], data)
        options = TrainOptions(batch=batch, lr=0.001, device="cpu", epochs=1)
        self.trainer: Trainer = make_trainer(card, options, CPU)
        self._data = Images(*place(data.train, card, CPU))
        self._order = torch.Generator().manual_seed(0)

    def block(self, steps: int) -> float:
        """Examples per second of ``steps`` timed steps."""
        with tuned(CPU):
            self._run(WARM_UP)
            start = time.perf_counter()
            done = self._run(steps)
            return done / (time.perf_counter() - start)

    def _run(self, steps: int) -> int:
        count = steps * self.trainer.batch
        chosen = torch.randint(len(self._data), (count,), generator=self._order)
        some = Images(self._data.pixels[chosen], self._data.labels[chosen])
        train_epoch(self.trainer, some, 0, self._order, _unheard)
        return count


def _unheard(_done: int, _loss: float | None) -> None:
    """Nobody watches the bench's steps."""


def gemm_gflops(dtype: torch.dtype) -> float:
    """The best rate of a few large square matrix products."""
    best = 0.0
    for side in GEMM_SIDES:
        a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
        out = a @ b
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def measure(
    spec: ModelSpec, data: Dataset, *, batch: int, steps: int, blocks: int
) -> TrainingSpeed:
    """Alternate the two loops and the matrix products."""
    torch.manual_seed(0)
    load_before = os.getloadavg()[0]
    book, ours = BookLoop(spec, data, batch), OurLoop(spec, data, batch)
    rows: list[tuple[float, float, float, float]] = []
    for index in range(blocks):
        slow, fast = book.block(steps), ours.block(4 * steps)
        rows.append((slow, fast, gemm_gflops(torch.float32), gemm_gflops(torch.bfloat16)))
        print(
            f"block {index + 1}/{blocks}: book {slow:.1f}, ours {fast:.1f} examples/s "
            f"({fast / slow:.2f}×); GEMM {rows[-1][2]:.0f} fp32, {rows[-1][3]:.0f} bf16 GFLOP/s",
            flush=True,
        )
    slow_all, fast_all, fp32, bf16 = zip(*rows, strict=True)
    ratios = tuple(fast / slow for slow, fast, _, _ in rows)
    flops = 6.0 * summarise(spec).cost.macs
    reached = statistics.median(fast_all) * flops / 1e9
    ceiling = statistics.median(bf16 if ours.trainer.precision == "bf16" else fp32)
    return TrainingSpeed(
        what="training, this package's loop beside the book's",
        made_at=environment.now(),
        environment=environment.capture(),
        threads=torch.get_num_threads(),
        load_average=(load_before, os.getloadavg()[0]),
        arch=spec.arch,
        width=spec.width,
        size=spec.size,
        batch=batch,
        dataset=data.name,
        timed_steps=steps,
        precision=ours.trainer.precision,
        book_examples_per_second=slow_all,
        ours_examples_per_second=fast_all,
        ratios=ratios,
        ratio=statistics.geometric_mean(ratios),
        gemm_fp32_gflops=fp32,
        gemm_bf16_gflops=bf16,
        flops_per_image=flops,
        ours_gflops=reached,
        share_of_gemm=reached / ceiling,
        counted="3 × 2 × forward multiply-adds of convolutions and fully connected layers",
    )


def main() -> None:
    """Parse, measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arch", default="vgg11")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of the book per block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--data", choices=DATASETS, default="auto")
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    o = parser.parse_args()
    spec = ModelSpec.named(o.arch, width=o.width, size=o.size, channels=1, classes=10)
    result = measure(spec, load_dataset(o.data), batch=o.batch, steps=o.steps, blocks=o.blocks)
    print(
        f"{result.ratio:.2f}× the book's loop ({min(result.ratios):.2f} to "
        f"{max(result.ratios):.2f}); {result.ours_gflops:.0f} GFLOP/s, "
        f"{result.share_of_gemm:.0%} of this machine's {result.precision} GEMM rate"
    )
    if o.output:
        jsonio.save(o.output, result)


if __name__ == "__main__":
    main()
