"""Engines in verify, bench and predict: which backend gets which, and what is said of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import ADA, backend_of, built, fake_of
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Backend
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import RefusedInput, StaleEngine
from vgg_deploy.pipeline import cells, predict
from vgg_deploy.pipeline.cells import Selection, plan
from vgg_deploy.pipeline.predict import predict_images
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.profile import Profile

ENGINES = Selection(formats=("engine",))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> tuple[Fake, Fake]:
    """A machine with an H100, TensorRT 11 and TensorRT-RTX, as the pipeline sees it."""
    trt, rtx = fake_of("11"), fake_of("rtx")
    table: Mapping[str, Backend] = {
        "trt": backend_of(trt),
        "trt-rtx": replace(backend_of(rtx), name="trt-rtx"),
    }
    monkeypatch.setattr(predict, "BACKENDS", {**table, "ort-cpu": BACKENDS["ort-cpu"]})
    monkeypatch.setattr(cells, "BACKENDS", table)
    for module in (cells, predict):
        monkeypatch.setattr(module, "get_backend", lambda name: table[name])
    return trt, rtx


def both(bundle: Bundle, machine: tuple[Fake, Fake]) -> tuple[Bundle, Artifact, Artifact]:
    bundle, first, _ = built(bundle, machine[0])
    bundle, second, _ = built(bundle, machine[1])
    return bundle, first, second


def test_each_backend_gets_the_engines_of_its_flavour(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    bundle, first, second = both(bundle, machine)
    found = plan(bundle, ENGINES)
    assert [(c.backend.name, c.artifact, c.missing) for c in found] == [
        ("trt", first, None),
        ("trt-rtx", second, None),
    ]
    assert found[0].subject.id == f"trt:{first.path}"


def test_the_engine_format_is_any_engine_whatever_its_precision(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    with pytest.raises(RefusedInput, match="holds no engine artifact") as caught:
        plan(bundle, ENGINES)
    assert f"vgg-deploy build {bundle.root}" in caught.value.remedy
    bundle, engine, _ = built(bundle, machine[0], BuildOptions(precision="tf32"))
    assert [c.artifact for c in plan(bundle, ENGINES) if c.backend.name == "trt"] == [engine]


def test_an_engine_for_another_gpu_is_a_skipped_row(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    bundle, _, _ = built(bundle, fake_of("11", ADA))
    bundle, here, _ = built(bundle, machine[0])
    there, fits = (c for c in plan(bundle, ENGINES) if c.backend.name == "trt")
    assert fits.artifact == here
    assert fits.missing is None
    assert "compute capability 8.9, here 9.0" in there.reason
    assert "build it here: vgg-deploy build" in there.reason


def test_asked_for_by_name_it_is_exit_5_when_no_other_fits(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    bundle, _, _ = built(bundle, fake_of("11", ADA))
    with pytest.raises(StaleEngine, match=r"compute capability 8\.9, here 9\.0") as caught:
        plan(bundle, Selection(backends=("trt",)))
    assert caught.value.exit_code == 5


def test_an_engine_of_an_onnx_file_that_is_gone_is_exit_5(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    bundle, engine, _ = built(bundle, machine[0])
    path = bundle.root / "manifest.json"
    path.write_text(
        path.read_text().replace(str(engine.parent), "0" * 64, 1)
    )  # the ONNX file's own
    with pytest.raises(StaleEngine, match="no longer in the bundle"):
        plan(open_bundle(bundle.root), Selection(backends=("trt",)))


def test_without_an_engine_the_command_that_builds_one_is_said(
    bundle: Bundle, machine: tuple[Fake, Fake]
) -> None:
    with pytest.raises(RefusedInput, match="no engine artifact") as caught:
        plan(bundle, Selection(backends=("trt-rtx",)))
    assert f"vgg-deploy build {bundle.root} --flavour tensorrt-rtx" in caught.value.remedy


def test_predict_takes_the_engine_that_fits(
    bundle: Bundle, machine: tuple[Fake, Fake], tmp_path: Path
) -> None:
    image = tmp_path / "x.png"
    Image.fromarray(np.full((40, 30), 120, np.uint8)).save(image)
    bundle, stale, _ = built(bundle, fake_of("11", ADA))
    with pytest.raises(StaleEngine, match="was built for another place"):
        predict_images(bundle, [image], backend="trt")
    (prediction,) = predict_images(bundle, [image])
    assert prediction.backend == "ort-cpu", "asked for none, the first that is usable is taken"
    bundle, engine, _ = built(bundle, machine[0])
    assert stale in bundle.artifacts
    (prediction,) = predict_images(bundle, [image])
    assert prediction.artifact == str(engine.path)
    assert prediction.backend == "trt"
    assert json.dumps(prediction.classes)


def test_predict_leaves_an_engine_for_larger_batches_alone(
    bundle: Bundle, machine: tuple[Fake, Fake], tmp_path: Path
) -> None:
    image = tmp_path / "x.png"
    Image.fromarray(np.full((40, 30), 120, np.uint8)).save(image)
    bundle, _, _ = built(bundle, machine[0], BuildOptions(profiles=(Profile(8, 8, 16),)))
    (prediction,) = predict_images(bundle, [image])
    assert prediction.backend == "ort-cpu"
