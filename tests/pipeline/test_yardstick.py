"""What files are held against: kept, checked, made for the pixels that a file gets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.networks import lively_bundle
from tests.faults import in_graph
from tests.faults.bases import card
from tests.faults.catalogue import record
from tests.faults.graph import Graph
from tests.heard import Heard
from vgg_deploy.backends.reference import eager, reference
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.pipeline import yardstick
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.results import Comparison

QUICK = VerifyOptions(
    selection=Selection(backends=("ort-cpu",), formats=("onnx",)), images=8, accuracy=False
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    lively = lively_bundle(tmp_path / "bundle", card("1x8-1x16-3x32"))
    return export_bundle(lively, ("onnx",), precisions=("fp16",))[0]


def rows_of(bundle: Bundle, options: VerifyOptions = QUICK) -> dict[str, Comparison]:
    report = verify_bundle(open_bundle(bundle.root), options)
    return {row.subject.id: row for row in report.rows}


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def test_the_yardstick_is_kept_and_checked(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(path: Path, batch: object, **options: object) -> object:
        calls.append(len(batch))  # type: ignore[arg-type]
        return reference(path, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(yardstick, "reference", counted)
    rows_of(bundle)
    rows_of(bundle)
    every = calls[0]
    assert every > 8
    assert calls == [every, 1], "all images once, then one to see that the kept ones still hold"
    path = bundle.root / yardstick.FILE
    with np.load(path) as stored:
        arrays = dict(stored)
    for name in (yardstick.EXACT, "fp32", "fp16"):
        edited = {**arrays, name: arrays[name] * 1.001}
        np.savez(path, **edited)
        calls.clear()
        told = Heard()
        verify_bundle(open_bundle(bundle.root), QUICK, told)
        assert calls == [every], "an edited yardstick is made again"
        assert any("was edited or damaged, it is made again" in line for line in told.said)
    for name, before in ((yardstick.EXACT, [1, every]), ("fp32", [1, every])):
        edited = {k: v for k, v in arrays.items() if k not in ("key", "digest")}
        edited[name] = edited[name] * 1.001
        digest = yardstick._digest(str(arrays["key"]), edited)
        np.savez(path, key=arrays["key"], digest=np.array(digest), **edited)
        calls.clear()
        rows_of(bundle)
        assert calls == before, "with a digest to it, too"
    whole = path.read_bytes()
    record = whole.index(b"PK\x01\x02")  # of the zip's directory
    npy = io.BytesIO()
    np.save(npy, np.zeros(3))
    for damaged in (
        b"PK nothing",
        whole[: len(whole) // 2],
        whole.replace(b"\x00", b"\x01"),
        flipped(whole, record + 8, 0),  # "encrypted"
        flipped(whole, record + 10, 1),  # a method that zipfile does not know
        npy.getvalue(),
    ):
        path.write_bytes(damaged)
        calls.clear()
        rows_of(bundle)
        assert calls == [every]


def test_an_eager_that_overflows_is_no_yardstick(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: torch eager in fp16 gives infinity for one image; fp32 is judged all the same."""

    def overflowing(path: Path, batch: object, precision: str, **options: object) -> object:
        found = eager(path, batch, precision, **options)  # type: ignore[arg-type]
        if precision == "fp16":
            found[3] = np.inf
        return found

    monkeypatch.setattr(yardstick, "eager", overflowing)
    rows = rows_of(bundle)
    assert rows["ort-cpu:model.fp32.onnx"].verdict == "equivalent"
    half = rows["ort-cpu:model.fp16.onnx"]
    assert half.verdict == "failed"
    assert "gives NaN or infinity in fp16 for 1 image, first for" in half.reason
    assert " #" in half.reason, "the image is named"


@pytest.mark.parametrize("resize", [None, 40])
def test_an_embedded_file_without_a_resize_is_judged_on_real_images(
    resize: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network takes 32×32, the sample's images are 28×28: the host resizes, as an app would."""
    lively = lively_bundle(tmp_path / "bundle", card("1x8-1x16-3x32", resize=resize))
    bundle = export_bundle(lively, ("onnx",))[0]
    made, artifact, _ = export_embedded(bundle, options=EmbeddedOptions(resize="none"))
    words = ["verify", str(made.root), "-f", "embedded", "-b", "ort-cpu", "--data", "sample"]
    assert main([*words, "--images", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["rows"]
    assert row["verdict"] == "equivalent", row
    assert row["accuracy"]["total"] == 1000
    counts = {"real": 8, "noise": 4, "edge": 2, "sizes": 3, "resized": 14 if resize else 8}
    assert report["inputs"] == counts
    graph = Graph(onnx.load(str(made.path(artifact))))
    in_graph.IN_PLAIN["bias of a convolution lost"](graph)
    record(made, artifact, lambda path: onnx.save(graph.model, str(path)))
    assert main([*words, "--images", "8", "--no-accuracy", "--json"]) == 7
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["verdict"] == "different"
