"""Builds on every TensorRT, over fakes with the real names: flags, records, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Thread

import onnx
import pytest

from tests.precision.conftest import with_changed_onnx
from tests.trt.fake_cuda import H100
from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import ADA, Told, backend_of, built, fake_of, place_of
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cuda import TF32_VARIABLE
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    RefusedInput,
    UsageError,
)
from vgg_deploy.manifest import Draft
from vgg_deploy.trt.build import _alone, build_engine
from vgg_deploy.trt.notes import read_notes
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.profile import Profile
from vgg_deploy.trt.timing_cache import cache_path

NAMES = {
    "8.6": "model.fp32.trt8.sm90.plan",
    "10": "model.fp32.trt10.sm90.plan",
    "11": "model.fp32.trt11.sm90.plan",
    "rtx": "model.fp32.rtx1.sm89.plan",
}
NETWORK = {"8.6": ["EXPLICIT_BATCH"]}


def test_the_plan_is_plain_and_the_manifest_knows_the_rest(bundle: Bundle, fake: Fake) -> None:
    options = BuildOptions(profiles=(Profile(1, 1, 1), Profile(2, 8, 64)))
    bundle, engine, reused = built(bundle, fake, options)
    assert not reused
    assert engine.path.name == NAMES[fake.name]
    assert bundle.path(engine).read_bytes().startswith(b"fake plan "), "nothing stands before it"
    onnx_file = bundle.find("onnx")
    assert onnx_file is not None
    assert engine.parent == onnx_file.sha256
    assert engine.target is not None
    assert engine.target.batches == ((1, 1, 1), (2, 8, 64))
    card = fake.driver.card
    wanted = {"gpu": card.name, "cuda": "13.0", "driver": "580", "onnx": "model.fp32.onnx"}
    assert wanted.items() <= dict(engine.made_by).items()
    assert open_bundle(bundle.root).named(NAMES[fake.name]) == engine


def test_what_every_version_is_asked(bundle: Bundle, fake: Fake) -> None:
    options = BuildOptions(workspace=2048, optimization_level=5, profiles=(Profile(1, 4, 8),))
    built(bundle, fake, options)
    assert fake.settings["network"] == NETWORK.get(fake.name, ["STRONGLY_TYPED"])
    assert fake.settings["WORKSPACE"] == 2048 << 20
    assert fake.config.profiling_verbosity.name == "DETAILED", "else layers have no types"
    assert fake.config.builder_optimization_level == 5
    assert fake.profiles == [[(1, 1, 32, 32), (4, 1, 32, 32), (8, 1, 32, 32)]]
    assert fake.flags == set(), "TF32 is cleared for fp32, nothing else is set"
    assert fake.settings.get("compute_capability") == ("SM89" if fake.name == "rtx" else None)


def test_what_is_not_asked_for_is_left_to_tensorrt(bundle: Bundle, fake: Fake) -> None:
    built(bundle, fake)
    assert "WORKSPACE" not in fake.settings
    assert not hasattr(fake.config, "builder_optimization_level")
    assert not hasattr(fake.config, "hardware_compatibility_level")


def test_tf32_is_the_builders_and_reads_the_fp32_file(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake, BuildOptions(precision="tf32"))
    assert fake.flags == {"TF32"}
    assert engine.precision == "tf32"
    assert engine.made_by["onnx"] == "model.fp32.onnx"


def test_tf32_that_the_gpu_has_not_is_refused(bundle: Bundle) -> None:
    """TensorRT would take the flag and build fp32."""
    turing = replace(H100, name="Tesla T4", compute_capability="7.5")
    for name in ("8.6", "10", "11"):
        fake = fake_of(name, turing)
        with pytest.raises(UsageError, match=r"cannot build tf32 for 7\.5: TF32 came with 8\.0"):
            built(bundle, fake, BuildOptions(precision="tf32"))
        built(bundle, fake)


def test_tf32_that_the_environment_switches_off_is_refused(
    bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, engine, _ = built(bundle, fake, BuildOptions(precision="tf32"))
    _, plain, _ = built(bundle, fake)
    backend = backend_of(fake)
    assert backend.refuses(engine) is None
    monkeypatch.setenv(TF32_VARIABLE, "0")
    with pytest.raises(UsageError, match=f"{TF32_VARIABLE}=0") as caught:
        built(bundle, fake, BuildOptions(precision="tf32"))
    assert f"unset {TF32_VARIABLE}" in caught.value.remedy
    missing = backend.refuses(engine)
    assert missing is not None
    assert missing.reason == f"{TF32_VARIABLE}=0 switches TF32 off"
    assert backend.refuses(plain) is None


@pytest.mark.parametrize(("to", "flags"), [(onnx.TensorProto.FLOAT16, {"FP16"}), (None, set())])
def test_before_strong_typing_the_flags_follow_the_graphs_types(
    bundle: Bundle, to: int | None, flags: set[str]
) -> None:
    fake = fake_of("8.6")
    if to is not None:
        plant(bundle, onnx.helper.make_node("Cast", ["input"], ["unused"], name="half", to=to))
        bundle = open_bundle(bundle.root)
    built(bundle, fake)
    assert fake.flags == flags


def test_a_valid_engine_is_kept_and_a_changed_one_is_not(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    fake.driver.card = replace(fake.driver.card, driver="590")
    assert built(bundle, fake)[2], "another driver alone is no reason to build again"
    assert not built(bundle, fake, BuildOptions(profiles=(Profile(1, 1, 2),)))[2]
    bundle, engine, _ = built(bundle, fake)
    bundle.path(engine).write_bytes(b"fake plan of somebody else")
    bundle, again, reused = built(bundle, fake)
    assert not reused
    assert again.sha256 == engine.sha256


def test_engines_of_several_kinds_live_side_by_side(bundle: Bundle) -> None:
    for name in NAMES:
        bundle, _, _ = built(bundle, fake_of(name))
    bundle, _, _ = built(bundle, fake_of("11"), BuildOptions(precision="tf32"))
    bundle, _, _ = built(bundle, fake_of("11", ADA))
    engines = [str(a.path) for a in bundle.artifacts if a.format == "engine"]
    extra = ["model.tf32.trt11.sm90.plan", "model.fp32.trt11.sm89.plan"]
    assert engines == [*NAMES.values(), *extra]
    bundle.check()


def test_an_onnx_file_with_equal_bytes_keeps_its_engines(bundle: Bundle) -> None:
    bundle, engine, _ = built(bundle, fake_of("11"))
    source = bundle.find("onnx")
    assert source is not None
    content = bundle.path(source).read_bytes()
    draft = Draft(
        format="onnx",
        precision="fp32",
        input=source.input,
        output=source.output,
        parent=source.parent,
        made_by={"exported": "again"},
    )
    bundle, again = bundle.add(draft, lambda path: save(path, content))
    assert again.sha256 == source.sha256
    bundle, other, _ = built(bundle, fake_of("10"))
    assert [a for a in bundle.artifacts if a.format == "engine"] == [engine, other]


def save(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_a_new_onnx_file_takes_its_engines_and_their_notes_along(bundle: Bundle) -> None:
    bundle, _, _ = built(bundle, fake_of("11"))
    plant(bundle, onnx.helper.make_node("Identity", ["input"], ["unused"], name="more"))
    bundle = open_bundle(bundle.root)
    assert [a.format for a in bundle.artifacts] == ["checkpoint", "onnx"]
    assert not list(bundle.root.glob("*.plan*"))


def plant(bundle: Bundle, node: onnx.NodeProto) -> None:
    """Enter the ONNX file with one more node into the manifest, as an export would."""
    with_changed_onnx(bundle, lambda model: model.graph.node.append(node))


def test_notes_hold_the_layers_of_the_inspector(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    notes = read_notes(bundle, engine)
    assert notes.source == "engine inspector"
    (layer,) = notes.layers
    kind = "fp32" if fake.name == "8.6" else "fp16"
    assert (layer.kind, layer.inputs, layer.tactic) == ("CaskConvolution", (kind,), layer.tactic)
    assert layer.nodes == ("node_conv2d", "node_relu")
    assert dict(notes.computed_in()) == {kind: 1}
    again = replace(layer, name=f"{layer.name} [profile 1]")
    twice = replace(notes, layers=(*notes.layers, again))
    assert twice.computed_in() == notes.computed_in(), "a layer of two profiles is one"
    path = bundle.root / f"{engine.path}.json"
    path.write_text(path.read_text().replace(engine.sha256, "0" * 64))
    with pytest.raises(RefusedInput, match="describes another file") as caught:
        read_notes(bundle, engine)
    assert "vgg-deploy build" in caught.value.remedy
    path.unlink()
    with pytest.raises(RefusedInput, match="no layers of"):
        read_notes(bundle, engine)


def test_progress_that_cannot_be_told_costs_no_build(bundle: Bundle) -> None:
    """A binding prints what a callback raises, and takes its answer for False: stop."""
    _, engine, _ = built(bundle, fake_of("11"), told=Told(raises=BrokenPipeError()))
    assert not bundle.problem(engine)


def test_ctrl_c_stops_the_build_and_leaves_nothing(bundle: Bundle) -> None:
    before = sorted(p.name for p in bundle.root.iterdir())
    with pytest.raises(KeyboardInterrupt):
        built(bundle, fake_of("11"), told=Told(raises=KeyboardInterrupt()))
    after = sorted(p.name for p in bundle.root.iterdir() if p.name != ".build.lock")
    assert after == before


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        ("8.6", BuildOptions(strip_weights=True), "no --strip-weights: plans without weights"),
        ("rtx", BuildOptions(hardware_compatible=True), "no --hardware-compatible: name the GPUs"),
        ("rtx", BuildOptions(version_compatible=True), "no --version-compatible: its lean"),
        ("8.6", BuildOptions(precision="bf16"), "TensorRT 8.6 does not build bf16"),
        ("8.6", BuildOptions(precision="fp8"), "TensorRT 8.6 does not build fp8"),
        ("11", BuildOptions(compute_capability="8.9"), "builds for the GPU it runs on"),
        ("rtx", BuildOptions(compute_capability="9.0"), "does not build for compute capability"),
        ("rtx", BuildOptions(compute_capability="7.5"), "Turing has no FP32 GEMM"),
    ],
)
def test_what_a_flavour_cannot_is_refused_before_it_starts(
    bundle: Bundle, name: str, options: BuildOptions, cause: str
) -> None:
    fake = fake_of(name)
    if options.precision != "fp32":  # any ONNX will do, it is not read
        bundle = with_precision(bundle, options.precision)
    with pytest.raises(UsageError, match=cause):
        built(bundle, fake, options)
    assert not fake.settings


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    path = bundle.root / "manifest.json"
    found = json.loads(path.read_text())
    for artifact in found["artifacts"]:
        if artifact["format"] == "onnx":
            artifact["precision"] = precision
    path.write_text(json.dumps(found))
    return open_bundle(bundle.root)


@pytest.mark.parametrize(
    ("asked", "versions", "flags"),
    [
        (BuildOptions(version_compatible=True), ("8.6", "10", "11"), {"VERSION_COMPATIBLE"}),
        (BuildOptions(hardware_compatible=True), ("8.6", "10", "11"), set()),
        (BuildOptions(strip_weights=True), ("10", "11", "rtx"), {"STRIP_PLAN", "REFIT_IDENTICAL"}),
    ],
)
def test_options_that_a_flavour_has_reach_it(
    bundle: Bundle, asked: BuildOptions, versions: tuple[str, ...], flags: set[str]
) -> None:
    for name in versions:
        fake = fake_of(name)
        _, engine, _ = built(bundle, fake, asked)
        assert fake.flags == flags, name
        level = getattr(fake.config, "hardware_compatibility_level", None)
        assert (level is not None) == asked.hardware_compatible
        assert engine.target is not None
        if level is not None:
            assert level.name == "AMPERE_PLUS"
            assert engine.target.compute_capability == "8.0+"


def test_the_lean_runtime_in_a_plan_is_allowed_to_list_its_layers(bundle: Bundle) -> None:
    bundle, engine, _ = built(bundle, fake_of("11"), BuildOptions(version_compatible=True))
    assert read_notes(bundle, engine).source == "engine inspector"


def test_no_onnx_file_and_a_changed_one(bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="holds no bf16 ONNX file") as caught:
        built(bundle, fake_of("11"), BuildOptions(precision="bf16"))
    assert f"export {bundle.root} --format onnx --precision bf16" in caught.value.remedy
    (bundle.root / "model.fp32.onnx").write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        built(bundle, fake_of("11"))


def test_an_engine_of_an_onnx_file_that_was_edited_since_is_not_reused(bundle: Bundle) -> None:
    bundle, _, _ = built(bundle, fake_of("11"))
    (bundle.root / "model.fp32.onnx").write_bytes(b"x")
    with pytest.raises(DigestMismatch, match="has 1 bytes instead"):
        built(bundle, fake_of("11"))


def test_an_operator_that_tensorrt_does_not_take_is_named(bundle: Bundle, fake: Fake) -> None:
    plant(bundle, onnx.helper.make_node("Det", ["input"], ["unused"], name="the_culprit"))
    with pytest.raises(RefusedInput, match=r"node the_culprit \(Det\): No importer") as caught:
        built(open_bundle(bundle.root), fake)
    assert caught.value.exit_code == 3
    assert not list(bundle.root.glob("*.plan*"))


def test_timing_caches_are_kept_per_library_cuda_and_gpu(bundle: Bundle, fake: Fake) -> None:
    built(bundle, fake)
    place = place_of(fake)
    path = cache_path(place.library, fake.driver.card)
    if fake.name == "rtx":
        assert not path.exists()
        assert not fake.cached
        return
    assert path.name == f"{place.library.version}-cuda13.0-NVIDIA_H100-sm9.0.cache"
    built(bundle, fake, BuildOptions(optimization_level=1))
    assert fake.cached == [b"", b"+timed"]
    fake.driver.card = replace(H100, name="NVIDIA H200")
    built(bundle, fake)
    assert fake.cached[-1] == b"", "another GPU has its own"


@pytest.mark.parametrize("how", ["damaged", "refused", "short"])
def test_a_bad_timing_cache_is_said_and_made_anew(bundle: Bundle, how: str) -> None:
    fake, told = fake_of("10"), Told()
    built(bundle, fake)
    path = cache_path(fake.library(), fake.driver.card)
    good = path.read_bytes()
    if how == "refused":
        fake.fault = "cache"
    else:
        path.write_bytes(good[:10] if how == "short" else good[:-1] + b"?")
    _, _, reused = built(bundle, fake, BuildOptions(optimization_level=1), told)
    assert not reused
    assert any("timing cache" in text and "made anew" in text for text in told.said)
    assert fake.cached[-1] == b""
    assert path.read_bytes() == good


def test_two_builds_at_once_make_one_engine(bundle: Bundle) -> None:
    fake, told, results = fake_of("11"), Told(), []
    with _alone(bundle.root, Told()):
        thread = Thread(target=lambda: results.append(built(bundle, fake, told=told)))
        thread.start()
        thread.join(timeout=2)
        assert thread.is_alive(), "the second build did not wait"
        assert any("waiting" in text for text in told.said)
    thread.join(timeout=30)
    assert [reused for _, _, reused in results] == [False]
    assert built(bundle, fake)[2]


def test_a_machine_without_a_gpu_builds_rtx_for_a_named_one_only(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgg_deploy import cuda
    from vgg_deploy.trt import place as places

    fake = fake_of("rtx")
    fake.driver.missing = "no NVIDIA driver is installed"
    monkeypatch.setattr(places, "load", lambda _: fake.library())
    monkeypatch.setattr(cuda, "driver", lambda: fake.driver)
    options = BuildOptions(flavour="tensorrt_rtx", compute_capability="8.6")
    place = places.find_place(options)
    assert (place.driver, place.gpu) == (None, None)
    _, engine, _ = build_engine(bundle, options, Told(), place)
    assert engine.made_by["gpu"] == "none"
    with pytest.raises(BackendNotAvailable, match="no GPU to build for: no NVIDIA dri") as caught:
        places.find_place(replace(options, compute_capability=None))
    assert "--compute-capability 8.9" in caught.value.remedy
    monkeypatch.setattr(places, "load", lambda _: fake_of("11").library())
    with pytest.raises(BackendNotAvailable, match="no NVIDIA driver"):
        places.find_place(BuildOptions())


def test_the_cache_folder_follows_xdg(bundle: Bundle, tmp_path: Path) -> None:
    path = cache_path(fake_of("11").library(), H100)
    assert path.is_relative_to(tmp_path / "cache")
