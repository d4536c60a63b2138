"""Every fault of the catalogue is found by ``vgg-deploy verify``; without one, nothing is."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from tests.faults import in_runtime
from tests.faults.bases import BASES, Bases
from tests.faults.catalogue import FAULTS, QUICK, TRAINED, pixels, planted, verdicts
from vgg_deploy.cli import main
from vgg_deploy.data.preprocess import preprocess, resize_weights
from vgg_deploy.export import baked
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.results import VERIFY_FILE, VerifyReport
from vgg_deploy.spec import Preprocessing
from vgg_deploy.stored import load


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found(
    name: str, bases: Bases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS[name]
    bundle = bases.copy(fault.base, tmp_path / "bundle")
    with planted(fault, bundle) as words:
        assert main(words) == fault.code, capsys.readouterr().err
    if fault.code == 7:  # of a file that does not open, too
        assert verdicts(bundle.root) == {fault.verdict}
    said = capsys.readouterr().err
    assert said.count("vgg-deploy: error:") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("base", BASES)
def test_nothing_is_found_without_a_fault(base: str, bases: Bases, tmp_path: Path) -> None:
    bundle = bases.copy(base, tmp_path / "bundle")
    words = TRAINED if base == "trained" else ("-b", "ort-cpu", *QUICK)
    assert main(["verify", str(bundle.root), *words]) == 0
    report = load(VerifyReport, bundle.root / VERIFY_FILE)
    assert {row.verdict for row in report.rows} == {"equivalent"}


def test_a_right_embedded_int8_file_passes(bases: Bases, tmp_path: Path) -> None:
    bundle, _, _ = export_embedded(bases.copy("trained", tmp_path / "bundle"), precision="int8")
    assert main(["verify", str(bundle.root), *TRAINED, "-f", "embedded"]) == 0
    (row,) = load(VerifyReport, bundle.root / VERIFY_FILE).rows
    figure = row.figure("sizes_rel_l2")
    assert figure is not None
    assert figure.limit is not None


def divided_at_once(
    b: baked._Builder, side: ir.Value, other: ir.Value, p: Preprocessing
) -> ir.Value:
    part = b.op("Mul", side, b.constant(p.resize))
    return b.op("Floor", b.op("Div", part, b.op("Min", side, other)))


@pytest.mark.parametrize(("backend", "code"), [("openvino", 7), ("ort-cpu", 0)])
def test_a_division_that_openvino_cuts_short_is_found(
    backend: str, code: int, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What files had before: OpenVINO multiplies by the reciprocal, and 20 becomes 19 pixels."""
    monkeypatch.setattr(baked, "_resized", divided_at_once)
    bundle, _, _ = export_embedded(bases.copy("cropped", tmp_path / "bundle"))
    words = ["verify", str(bundle.root), "-b", backend, "-f", "embedded", *QUICK]
    assert main(words) == code
    assert verdicts(bundle.root) == ({"different"} if code else set())


def test_an_app_that_prepares_pixels_rightly_passes(bases: Bases, tmp_path: Path) -> None:
    bundle = bases.copy("cropped", tmp_path / "bundle")
    for prepare in (preprocess, in_runtime.with_weights(resize_weights)):
        with pixels(prepare)(bundle):
            assert main(["verify", str(bundle.root), "-b", "ort-cpu", *QUICK]) == 0


def test_there_are_faults_of_every_kind() -> None:
    groups = {fault.group for fault in FAULTS.values()}
    assert groups == {
        "ONNX graph",
        "export",
        "runtime",
        "app's preprocessing",
        "precision",
        "files",
    }
    assert len(FAULTS) >= 30
