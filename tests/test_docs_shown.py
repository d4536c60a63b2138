"""Command lines that the docs show without running them themselves: run here, or said why not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import PAGES
from vgg_deploy.cli import main

pytestmark = pytest.mark.slow

# How a line begins: why no test runs it.
NOT_RUN = {
    "load --weights VGG16_Weights": "torchvision's weights come over the network",
    "load --weights mine.pth": "the reader's own file; tests/model has such files",
    "export artifacts/vgg16": "as above: needs torchvision's weights",
    "build artifacts/vgg16": "as above",
    "verify artifacts/vgg16": "as above, and a GPU",
    "bench artifacts/vgg16": "as above, and a GPU",
    "inspect artifacts/vgg16": "as above, and a GPU",
    "train --from artifacts/vgg16": "as above",
    "train --arch vgg11": "trains for half an hour",
    "train --data photos": "the reader's own images; tests/train has such folders",
    "verify artifacts/photos": "as above",
    "export artifacts/photos": "as above; tests/precision calibrates with such a folder",
    "bench artifacts/fmnist --batch 1 --batch 8": "every backend, for minutes; README runs two",
    "bench artifacts/fmnist --percentile 99": "its gate depends on how fast the machine is",
    "bench artifacts/fmnist --compare": "takes minutes; tests/pipeline compares in fewer rounds",
    "diff before artifacts/fmnist": "its gate depends on how two timings came out",
}
MAY_FAIL = {"choose": 1}  # by a limit that a noisy machine does not meet


def shown_lines(page: Path) -> list[str]:
    """Indented lines that begin with the program's name, without it."""
    return re.findall(r"^ {4}vgg-deploy (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def why_not(line: str) -> str:
    """The reason why a line is not run, or nothing."""
    return next((reason for start, reason in NOT_RUN.items() if line.startswith(start)), "")


WITH_LINES = [page for page in PAGES if any(not why_not(line) for line in shown_lines(page))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which ``artifacts/fmnist`` has been through the whole main job."""
    place = tmp_path_factory.mktemp("shown")
    before = Path.cwd()
    os.chdir(place)
    try:
        assert main(["run", "--preset", "quick", "-o", "artifacts/fmnist"]) == 0
        yield place
    finally:
        os.chdir(before)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("page", WITH_LINES, ids=lambda page: page.name)
def test_shown_lines_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line in shown_lines(page):
        if why_not(line):
            continue
        words = shlex.split(line)
        assert main(words) in {0, MAY_FAIL.get(words[0], 0)}, line


def test_every_reason_belongs_to_a_line() -> None:
    lines = [line for page in PAGES for line in shown_lines(page)]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in lines), start
