"""What Fashion-MNIST's files are: names, sizes, digests and classes.

Digests are those of the *unpacked* IDX files. The publisher's ``.gz`` files and Debian's differ
in the gzip header (Debian's ``gzip -n`` leaves out the file name and sets another time) and
hold the same bytes: with the publisher's header put back, all four of Debian's files have the
MD5 sums that torchvision publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """One of the four files: its name without ``.gz`` and what it unpacks to."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The two files of a split."""

    images: IdxFile
    labels: IdxFile


Files = Mapping[Literal["train", "test"], SplitFiles]


def _files(train: int, test: int, digests: Sequence[str]) -> Files:
    def split(prefix: str, count: int, images: str, labels: str) -> SplitFiles:
        return SplitFiles(
            images=IdxFile(
                name=f"{prefix}-images-idx3-ubyte", size_bytes=16 + count * 28 * 28, sha256=images
            ),
            labels=IdxFile(name=f"{prefix}-labels-idx1-ubyte", size_bytes=8 + count, sha256=labels),
        )

    return {
        "train": split("train", train, *digests[:2]),
        "test": split("t10k", test, *digests[2:]),
    }


OFFICIAL: Files = _files(
    60_000,
    10_000,
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
SAMPLE: Files = _files(
    5_000,
    1_000,
    (
        "444ed5f7ce17397f236f5eba17dd507d3f6912f04edd3e4f1701cdf82f2cc0c5",
        "35d691216f65485d010cc635af5574a9dc04aa5060de9be64ab6e5cb5ead38e9",
        "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
        "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
    ),
)
