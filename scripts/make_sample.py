"""Make the sample inside the package from the full Fashion-MNIST: same bytes every time.

    python scripts/make_sample.py [--data-dir FOLDER] [-o FOLDER]

Of each class the first 500 training and the first 100 test images, in their published order,
so that anyone can make it again and nothing was picked. Prints the digests that
``vgg_deploy.data.published.SAMPLE`` must hold.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Split
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.idx import format_idx
from vgg_deploy.data.published import SAMPLE
from vgg_deploy.files import atomic

PER_CLASS = {"train": 500, "test": 100}
SAMPLE_FOLDER = Path(__file__).parents[1] / "vgg_deploy" / "data" / "sample"


def stratified(split: Split, per_class: int) -> Split:
    """The first ``per_class`` images of each class, in their original order."""
    first = [np.flatnonzero(split.labels == c)[:per_class] for c in np.unique(split.labels)]
    index = np.sort(np.concatenate(first))
    return Split(split.images[index], split.labels[index])


def packed(content: bytes) -> bytes:
    """The smallest gzip file, without name and time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def write_sample(data_dir: Path | None, folder: Path) -> int:
    """Write the four files; their size together, in bytes."""
    full = load_dataset("fashion-mnist", data_dir)
    total = 0
    for key, split in (("train", full.train), ("test", full.test)):
        chosen = stratified(split, PER_CLASS[key])
        names = SAMPLE["train" if key == "train" else "test"]
        for name, values in (
            (names.images.name, chosen.images[..., 0]),
            (names.labels.name, chosen.labels.astype(np.uint8)),
        ):
            content = format_idx(values)
            data = packed(content)
            with atomic(folder / f"{name}.gz") as partial:
                partial.write_bytes(data)
            total += len(data)
            print(f"{hashlib.sha256(content).hexdigest()}  {name} (unpacked)")
    return total


def main() -> None:
    """Parse, write, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, help="folder of the full data set")
    parser.add_argument("-o", "--output", type=Path, default=SAMPLE_FOLDER)
    options = parser.parse_args()
    print(f"{write_sample(options.data_dir, options.output):,} bytes")


if __name__ == "__main__":
    main()
