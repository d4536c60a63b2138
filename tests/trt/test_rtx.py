"""Real TensorRT-RTX, which builds without a GPU: every precision, for every GPU it knows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread

import onnx
import pytest

from tests.conftest import make_bundle, make_card
from tests.trt.helpers import Told
from tests.trt.test_build import plant
from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.trt.build import build_engine
from vgg_deploy.trt.flavour import load
from vgg_deploy.trt.log import Log
from vgg_deploy.trt.notes import read_notes
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place
from vgg_deploy.trt.profile import Profile

pytest.importorskip("tensorrt_rtx_bindings", reason="pip install vgg-deploy[rtx]")

CARD = make_card("1x16-2x32")
PRODUCTS = CARD.spec.weight_layers  # convolutions and matrix products
CAPABILITIES = ("8.6", "8.9", "12.0")
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
CELLS = [(p, c) for p in PRECISIONS for c in CAPABILITIES if (p, c) != ("fp8", "8.6")]
TURING: tuple[Precision, ...] = ("fp16",)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its ONNX file in every precision."""
    made = make_bundle(tmp_path_factory.mktemp("rtx") / "bundle", CARD)
    options = CalibrationOptions(data="sample", images=16)
    wanted = [p for p in PRECISIONS if p != "tf32"]
    return export_bundle(made, ("onnx",), precisions=wanted, calibration=options)[0].root


@pytest.fixture
def bundle(everything: Path, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(everything, tmp_path / "bundle")))


def made(
    bundle: Bundle, options: BuildOptions, told: Told | None = None
) -> tuple[Bundle, Artifact, bool]:
    """A build as on a machine without a GPU, wherever the tests run."""
    place = Place(library=load("tensorrt_rtx"), driver=None, gpu=None)
    return build_engine(bundle, options, told or Told(), place)


def options_for(precision: Precision, capability: str) -> BuildOptions:
    return BuildOptions(flavour="tensorrt_rtx", precision=precision, compute_capability=capability)


@pytest.mark.parametrize(("precision", "capability"), CELLS)
def test_every_precision_is_built_and_computed_in(
    bundle: Bundle, precision: Precision, capability: str
) -> None:
    bundle, engine, _ = made(bundle, options_for(precision, capability))
    sm = capability.replace(".", "")
    assert engine.path.name == f"model.{precision}.rtx1.sm{sm}.plan"
    assert engine.size_bytes == bundle.path(engine).stat().st_size > 50_000
    assert bundle.path(engine).read_bytes().startswith(b"vtrt"), "a plain plan: its header is first"
    notes = read_notes(bundle, engine)
    assert notes.source == "builder log"
    kind = "fp32" if precision == "tf32" else precision  # TF32 is a way to multiply fp32
    assert notes.computed_in() == {kind: PRODUCTS}, "each product once, in its precision"


@pytest.mark.parametrize("precision", TURING)
def test_turing_has_half_precision_only(bundle: Bundle, precision: Precision) -> None:
    made(bundle, options_for(precision, "7.5"))
    for other in ("fp32", "tf32", "bf16", "fp8"):
        with pytest.raises(UsageError, match="Turing has no"):
            made(bundle, options_for(other, "7.5"))


def test_what_the_table_calls_impossible_the_builder_refuses(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the table would refuse what a newer library can build."""
    from vgg_deploy.trt import build, config

    for module in (build, config):
        monkeypatch.setattr(module, "capability_of", lambda options, _: options.compute_capability)
    for precision, capability in (("fp32", "7.5"), ("bf16", "7.5"), ("fp8", "7.5"), ("fp8", "8.6")):
        with pytest.raises(RefusedInput, match="Cannot compile"):
            made(bundle, options_for(precision, capability))  # type: ignore[arg-type]


def test_a_second_build_is_kept_and_several_profiles_are_taken(bundle: Bundle) -> None:
    options = BuildOptions(
        flavour="tensorrt_rtx",
        compute_capability="8.9",
        profiles=(Profile(1, 1, 1), Profile(2, 8, 64)),
        optimization_level=1,
        workspace=256,
    )
    bundle, first, _ = made(bundle, options)
    assert sum(read_notes(bundle, first).computed_in().values()) == PRODUCTS, "not once per profile"
    bundle, second, reused = made(bundle, options)
    assert reused
    assert second == first


def test_an_unknown_operator_is_named_by_the_real_parser(bundle: Bundle) -> None:
    plant(bundle, onnx.helper.make_node("Det", ["input"], ["unused"], name="the_culprit"))
    with pytest.raises(RefusedInput, match=r"TensorRT-RTX does not take .*the_culprit \(Det\)"):
        made(open_bundle(bundle.root), options_for("fp32", "8.9"))


def test_ctrl_c_stops_a_real_build_and_leaves_nothing(bundle: Bundle) -> None:
    told = Told(raises=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        made(bundle, options_for("fp32", "8.9"), told)
    assert not list(bundle.root.glob("*.plan*"))
    assert not list(bundle.root.glob(".partial-*"))


def test_ctrl_c_while_the_library_logs_stops_the_build_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, heard = Log.keep, []

    def interrupted(log: Log, severity: str, text: str) -> None:
        heard.append(text)
        if "After dead-layer removal" in text:
            raise KeyboardInterrupt
        keep(log, severity, text)

    monkeypatch.setattr(Log, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(bundle, options_for("fp32", "8.9"))
    assert not any("Engine generation completed" in text for text in heard), "it was not stopped"
    assert not list(bundle.root.glob("*.plan*"))


def test_two_real_builds_at_once_make_one_engine(bundle: Bundle) -> None:
    results = []

    def build() -> None:
        results.append(made(bundle, options_for("fp32", "8.9"))[1:])

    threads = [Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reused for _, reused in results) == [False, True]
    assert len({engine.sha256 for engine, _ in results}) == 1
    opened = open_bundle(bundle.root)
    opened.check()
    assert [a.format for a in opened.artifacts].count("engine") == 1


def test_a_plan_without_weights_needs_a_gpu_to_build_there(bundle: Bundle) -> None:
    options = BuildOptions(flavour="tensorrt_rtx", compute_capability="8.9", strip_weights=True)
    with pytest.raises(BackendNotAvailable, match="needs a GPU to build with --strip-weights"):
        made(bundle, options)
    library = load("tensorrt_rtx")  # else the table would refuse what a newer library can build
    traits = replace(library.traits, on_gpu_only=frozenset())
    place = Place(library=replace(library, traits=traits), driver=None, gpu=None)
    with pytest.raises(RefusedInput, match=r"could not build model\.fp32\.onnx"):
        build_engine(bundle, options, Told(), place)


def test_too_little_workspace_is_told_with_the_option_that_gives_it(bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="workspace limit") as caught:
        made(bundle, replace(options_for("fp32", "8.9"), workspace=1))
    assert "larger --workspace" in caught.value.remedy


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("batches", [(1,), (1, 8)], ids=str)
def test_products_in_generated_kernels_are_found_in_every_profile(
    bundle: Bundle, precision: Precision, batches: tuple[int, ...]
) -> None:
    """For a batch of 1 TensorRT makes its matrix products itself: ``__myl_MulSumAddRelu``."""
    profiles = tuple(Profile(size, size, size) for size in batches)
    bundle, engine, _ = made(bundle, replace(options_for(precision, "8.9"), profiles=profiles))
    notes = read_notes(bundle, engine)
    assert notes.computed_by_profile() == ({precision: PRODUCTS},) * len(batches)
    generated = [layer for layer in notes.layers if "MulSum" in layer.name]
    assert bool(generated) == (precision != "int8")


def test_the_commands_from_build_to_layers(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(bundle.root)
    words = ["build", root, "--flavour", "tensorrt-rtx", "--precision", "fp16", "--batch", "1:2:8"]
    capabilities = ["--compute-capability", "8.6", "--compute-capability", "9.0"]
    assert main([*words, *capabilities, "--json"]) == 2, "one of two cannot be built"
    made, refused = json.loads(capsys.readouterr().out)["engines"]
    assert made["engine"]["target"]["batches"] == [[1, 2, 8]]
    assert "9.0" in refused["reason"]
    name = made["engine"]["path"]
    assert main([*words, *capabilities[:2]]) == 0
    captured = capsys.readouterr()
    assert f"{name} reused, still valid" in captured.err
    assert f"{PRODUCTS} × fp16" in captured.out
    assert main(["inspect", root, "--engine", name]) == 0
    shown = capsys.readouterr().out
    assert f"products in {PRODUCTS} × fp16" in shown
    assert "correlation" in shown
    assert main(["inspect", root, "--engine", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"]["sha256"] == made["engine"]["sha256"]


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["--engine", "model.fp16.onnx"], 3, "is no engine but onnx"),
        (["--engine", "model.fp17.plan"], 2, "unknown artifact"),
        (["--engine", "stranger.plan"], 3, "its manifest does not name it"),
        (["--engine", "model.fp32.rtx1.sm89.plan"], 4, "was changed"),
    ],
)
def test_inspect_refuses_what_it_does_not_know(
    bundle: Bundle, words: list[str], code: int, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, engine, _ = made(bundle, options_for("fp32", "8.9"))
    path = bundle.path(engine)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (bundle.root / "stranger.plan").write_bytes(b"x")
    assert main(["inspect", str(bundle.root), *words]) == code
    assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["--flavour", "tensorrtx"], 2, "unknown flavour"),
        (["--precision", "fp12"], 2, "unknown precision"),
        (["--batch", "8:1:64"], 2, "batch profile 8:1:64"),
        (["--batch", "1:8"], 2, "batch profile '1:8'"),
        (["--batch", "0"], 2, "batch profile 0:0:0"),
        (["--batch", "1:8:100000000"], 2, "give at most 65,536 images in a batch"),
        (["--workspace", "0"], 2, "--workspace 0"),
        (["--optimization-level", "6"], 2, "--optimization-level 6"),
        (["--flavour", "tensorrt-rtx", "--version-compatible"], 2, "no --version-compatible"),
    ],
)
def test_bad_words_for_build(
    bundle: Bundle, words: list[str], code: int, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx = ["--flavour", "tensorrt-rtx"] if "--flavour" not in words else []
    line = ["build", str(bundle.root), *rtx, "--compute-capability", "8.9", *words]
    assert main(line) == code
    assert cause in capsys.readouterr().err
    assert not list(bundle.root.glob("*.plan*"))
