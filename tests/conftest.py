"""Shared fixtures: a tiny VGG with random weights, as a card and as a bundle on disk."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.artifact import Format
from vgg_deploy.bench.limits import ceilings
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.environment import capture
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import input_spec, output_spec, save_checkpoint
from vgg_deploy.pipeline import bench, usual
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing


def pytest_configure() -> None:
    """Ctrl-C can be tested even where a shell started pytest in the background.

    Such a shell has SIGINT ignored, and every program that a test starts would inherit that.
    cuBLAS reads its workspace's size once, before whichever test multiplies first: the size with
    which training gives the same bits.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` say why they do not run."""
    if capture().gpu is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``NO_SKIPS`` set, as ``.ci/run`` does, only tests marked ``gpu`` may be skipped."""
    report = yield
    needs = item.get_closest_marker("gpu") is None and not hasattr(report, "wasxfail")
    if (
        report.skipped
        and needs
        and os.environ.get("NO_SKIPS")
        and NO_BF16 not in report.longreprtext
    ):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """With ``NO_SKIPS`` set no file may be skipped whole: a test marked ``gpu`` skips itself."""
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _terminal_is_heard() -> Iterator[None]:
    """SIGHUP can be tested even where ``nohup`` started pytest and has it ignored."""
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    before = hang_up and signal.signal(hang_up, signal.SIG_DFL)
    yield
    if hang_up:
        signal.signal(hang_up, before)


@pytest.fixture(autouse=True, scope="session")
def _nothing_remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """How long the exports of tests take is not for the user's cache."""
    path = tmp_path_factory.mktemp("usual") / "seconds.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usual, "_file", lambda: path)
        yield


@pytest.fixture(autouse=True, scope="session")
def _ceilings_once() -> Iterator[None]:
    """What the machine can do is measured once; tests/bench/test_roofline.py asks for it itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "ceilings", cache(ceilings))
        yield


LABELS = tuple("abcdefghij")
NO_BF16 = "this processor has no bf16"  # no package can mend that


def make_card(arch: str = "1x4-1x8-2x8", *, size: int = 32, channels: int = 1) -> ModelCard:
    """A card whose network has a few thousand parameters."""
    return ModelCard(
        spec=ModelSpec.named(arch, size=size, channels=channels, classes=10, fc_width=32),
        preprocessing=Preprocessing(
            size=size, channels=channels, mean=(0.3,) * channels, std=(0.35,) * channels
        ),
        labels=LABELS,
    )


def make_bundle(root: Path, card: ModelCard, *, seed: int = 0) -> Bundle:
    """A bundle with one checkpoint of seeded random weights and no other artifact.

    He-normal weights: with torch's default ones the logits are almost only biases, and a backend
    that ignores its input would pass.
    """
    import torch
    from torch import nn

    from vgg_deploy.model.vgg import VGG

    torch.manual_seed(seed)
    network = VGG(card.spec)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    state = network.state_dict()
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={"made_by": "tests"},
    )
    bundle, _ = create_bundle(
        root, card, draft, lambda path: save_checkpoint(path, card, state), replace=False
    )
    return bundle


@pytest.fixture
def tiny_card() -> ModelCard:
    return make_card()


@pytest.fixture
def tiny_bundle(tmp_path: Path, tiny_card: ModelCard) -> Bundle:
    return make_bundle(tmp_path / "bundle", tiny_card)


@pytest.fixture(scope="session")
def tiny_exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny bundle in these formats, made once; it belongs to all tests."""
    from vgg_deploy.pipeline.export import export_bundle

    @cache
    def root(*formats: Format) -> Path:
        made = make_bundle(tmp_path_factory.mktemp("exported") / "bundle", make_card())
        return export_bundle(made, formats)[0].root

    return root


@pytest.fixture
def onnx_bundle(tiny_exports: Callable[..., Path], tmp_path: Path) -> Bundle:
    """A copy of one with its ONNX file."""
    return open_bundle(shutil.copytree(tiny_exports("onnx"), tmp_path / "bundle"))


@pytest.fixture
def two_formats(tiny_exports: Callable[..., Path], tmp_path: Path) -> Bundle:
    """A copy of one with its ONNX and TorchScript files."""
    return open_bundle(shutil.copytree(tiny_exports("onnx", "torchscript"), tmp_path / "bundle"))


@pytest.fixture
def bundle_of(tmp_path: Path) -> Callable[[ModelCard], Bundle]:
    return lambda card: make_bundle(tmp_path / card.spec.arch, card)


def photos(root: Path, seed: int) -> Path:
    """Two classes of 25 images, whose names do not depend on the seed."""
    random = np.random.default_rng(seed)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(25):
            pixels = random.integers(0, 256, (40, 34, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root
