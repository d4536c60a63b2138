"""Whatever TensorRT refuses is an error with its own words, a remedy and an exit code.

The faults are planted in the fake: none of them can be provoked with the real library at will.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trt import fake_runtime
from tests.trt.fake_tensorrt import Fake, Fault
from tests.trt.helpers import Told, backend_of, built, fake_of, place_of
from tests.trt.test_session import BATCH, EXACT, opened
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import BackendNotAvailable, UsageError, VggDeployError
from vgg_deploy.manifest import Draft
from vgg_deploy.trt import build
from vgg_deploy.trt.failure import build_failure
from vgg_deploy.trt.log import Log
from vgg_deploy.trt.match import rebuild_command
from vgg_deploy.trt.notes import read_notes
from vgg_deploy.trt.options import BuildOptions

LIBRARY, FILE, MEMORY = 10, 3, 6  # exit codes
REMEDY = {LIBRARY: "nvidia-smi", FILE: "build", MEMORY: "end other programs"}
FULL = "out of GPU memory: 12.88 GB wanted, 1.07 of 1.07 GB are free; Requested amount"

BUILDING: list[tuple[Fault, int, str]] = [
    ("builder", LIBRARY, "start the builder of .*: CUDA initialization failure with error: 35"),
    ("network", FILE, "build .*: planned: network; TensorRT gave no network"),
    ("parser", FILE, "build .*: planned: parser; TensorRT gave no parser"),
    ("config", FILE, "build .*: planned: config; TensorRT gave no configuration"),
    ("new profile", FILE, "build .*: planned: new profile; TensorRT gave no profile"),
    ("add profile", FILE, "build .*: planned: add profile; .* does not take profile 1:8:64"),
    ("build", FILE, r"build model\.fp32\.onnx with TensorRT.*: planned: no kernel"),
    ("memory", MEMORY, f"build .*: {FULL}"),
]
OPENING: list[tuple[Fault, int, str]] = [
    ("runtime", LIBRARY, "start the runtime of TensorRT.*: planned: runtime"),
    ("runtime raises", LIBRARY, "start .*: planned: runtime raises; the runtime is not for this"),
    ("plan", FILE, r"open .*\.plan: planned: plan"),
    ("plan raises", FILE, r"open .*\.plan: planned: plan raises; the plan raises"),
    ("plan memory", MEMORY, rf"open .*\.plan: {FULL}"),
]
REFITTING: list[tuple[Fault, str]] = [
    ("refitter", "planned: refitter"),
    ("refit file", "planned: refit file"),
    ("refit", "planned: refit"),
    ("missing weights", r"no weights for conv0\.weight, conv1\.weight, conv2\.weight and 2 more"),
]
RUNNING: list[tuple[Fault, int, str]] = [
    ("context memory", MEMORY, rf"make an execution context with .*\.plan: {FULL}"),
    ("profile", FILE, r"use profile 1:8:64 with .*\.plan: planned: profile"),
    ("shape", FILE, r"take the shape \(5, 1, 32, 32\) with .*\.plan: planned: shape"),
    ("infer", FILE, r"infer the shapes of input, mask with .*\.plan: planned: infer"),
    ("infer raises", FILE, r"run .*\.plan: planned: infer raises; shape inference failed"),
    ("address", FILE, r"place input with .*\.plan: planned: address"),
    ("run", FILE, r"enqueue a run with .*\.plan: planned: run"),
    ("capture", FILE, r"enqueue a run with .*\.plan: planned: capture"),
]


def fits(error: VggDeployError, code: int, said: str) -> None:
    """The whole cause, without the source places of TensorRT's authors, and a remedy."""
    assert error.exit_code == code, error.cause
    assert re.match(f"could not {said}", error.cause), error.cause
    assert "/_src/" not in error.cause
    assert REMEDY[code] in error.remedy


@pytest.mark.parametrize(("fault", "code", "said"), BUILDING)
def test_a_build_ends_in_two_lines_and_leaves_nothing(
    bundle: Bundle,
    fake: Fake,
    fault: Fault,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(p.name for p in bundle.root.iterdir())
    fake.fault = fault
    monkeypatch.setattr(build, "find_place", lambda _: place_of(fake))
    assert main(["build", str(bundle.root)]) == code
    *_, cause, remedy = capsys.readouterr().err.splitlines()
    assert re.match(f"vgg-deploy: error: could not {said}", cause), cause
    assert re.match(r"  remedy: \w", remedy), remedy
    assert sorted(p.name for p in bundle.root.iterdir() if p.name != ".build.lock") == before


def test_an_onnx_file_that_is_none_is_refused_by_the_parser(
    bundle: Bundle,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = bundle.find("onnx")
    assert plain is not None
    draft = Draft(
        format="onnx",
        precision="fp32",
        input=plain.input,
        output=plain.output,
        parent=plain.parent,
        made_by=plain.made_by,
    )

    def rubbish(path: Path) -> None:
        path.write_bytes(b"\xff rubbish")

    bundle.add(draft, rubbish)
    monkeypatch.setattr(build, "find_place", lambda _: place_of(fake))
    assert main(["build", str(bundle.root)]) == FILE
    *_, cause, remedy = capsys.readouterr().err.splitlines()
    assert "does not take model.fp32.onnx: Failed to parse the ONNX model" in cause
    assert "export the ONNX again" in remedy


def test_a_gpu_that_rtx_refuses_to_build_for(bundle: Bundle) -> None:
    fake = fake_of("rtx")
    fake.fault = "capability"
    with pytest.raises(VggDeployError) as caught:
        built(bundle, fake)
    fits(caught.value, FILE, "build .*: planned: capability; .* take compute capability 8.9")


UNOPENED: list[tuple[Fault, str]] = [
    ("runtime", "be opened to list its layers: planned: runtime"),
    ("runtime raises", "be opened to list its layers: the runtime is not for this machine"),
    ("plan", "be opened to list its layers: planned: plan"),
    ("plan raises", "be opened to list its layers: the plan raises"),
    ("inspector", "tell its layers: "),
    ("inspector raises", "tell its layers: incompatible function arguments"),
]
STRANGE = (
    '{"Layers": [{"Name": "conv", "Alpha": inf}]}',  # no JSON
    '{"Layers": [{"Name": "conv", "Inputs": ["x"]}]}',
    '{"Layers": [{"LayerType": "CaskConvolution"}]}',
    '{"Layers": 1}',
    " ",
)


@pytest.mark.parametrize(("fault", "said"), UNOPENED)
def test_a_new_engine_that_does_not_open_is_kept_and_said(
    bundle: Bundle, fault: Fault, said: str
) -> None:
    fake, told = fake_of("11"), Told()
    fake.fault = fault
    bundle, engine, _ = built(bundle, fake, told=told)
    notes = read_notes(bundle, engine)
    assert notes.source == "builder log"
    for texts in (told.said, notes.warnings):
        assert any(text.startswith(f"the new engine could not {said}") for text in texts)


@pytest.mark.parametrize("text", STRANGE)
def test_a_plan_whose_inspector_is_not_understood_is_kept_and_said(
    bundle: Bundle, fake: Fake, text: str
) -> None:
    told = Told()
    fake.inspected = text
    bundle, engine, _ = built(bundle, fake, told=told)
    assert read_notes(bundle, engine).source == "builder log"
    assert any("gave something else than layers" in said for said in told.said)


@pytest.mark.parametrize(("fault", "code", "said"), OPENING)
def test_what_is_refused_while_opening(
    bundle: Bundle, fake: Fake, fault: Fault, code: int, said: str
) -> None:
    bundle, engine, _ = built(bundle, fake)
    fake.fault = fault
    with pytest.raises(VggDeployError) as caught:
        opened(fake, engine, bundle)
    fits(caught.value, code, said)
    if code == FILE:
        assert f"build it again: vgg-deploy build {bundle.root}" in caught.value.remedy
    assert fake.driver.left == 0


def test_a_folder_with_a_space_is_one_word_of_the_command(bundle: Bundle, fake: Fake) -> None:
    _, engine, _ = built(bundle, fake)
    assert rebuild_command(engine, Path("sp ace")).startswith("vgg-deploy build 'sp ace' --")


@pytest.mark.parametrize(("fault", "said"), REFITTING)
@pytest.mark.parametrize("name", ["10", "11", "rtx"])
def test_what_is_refused_while_weights_are_put_in(
    bundle: Bundle, name: str, fault: Fault, said: str
) -> None:
    fake = fake_of(name)
    bundle, engine, _ = built(bundle, fake, BuildOptions(strip_weights=True))
    fake.fault = fault
    with pytest.raises(VggDeployError) as caught:
        opened(fake, engine, bundle)
    fits(caught.value, FILE, rf"put the weights of model\.fp32\.onnx into .*\.plan: {said}$")
    assert "--strip-weights" in caught.value.remedy
    assert fake.driver.left == 0


@pytest.mark.parametrize("bind", [True, False], ids=["bind", "call"])
def test_rtx_that_gives_no_runtime_configuration(bundle: Bundle, bind: bool) -> None:
    fake = fake_of("rtx")
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        fake.fault = "runtime config"
        with pytest.raises(VggDeployError) as caught:
            (session.bind if bind else session)(BATCH)
    fits(caught.value, FILE, "run .*: planned: runtime config; TensorRT gave no runtime config")


@pytest.mark.parametrize(("fault", "code", "said"), RUNNING)
@pytest.mark.parametrize("bind", [True, False], ids=["bind", "call"])
def test_what_is_refused_while_running_and_the_session_goes_on(
    bundle: Bundle, fake: Fake, bind: bool, fault: Fault, code: int, said: str
) -> None:
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        fake.fault = fault
        if bind or fault != "capture":  # calls are not captured
            with pytest.raises(VggDeployError) as caught:
                (session.bind if bind else session)(BATCH)
            fits(caught.value, code, said)
        fake.fault = None
        session.bind(BATCH)()
        np.testing.assert_array_equal(session.output(), EXACT)
        np.testing.assert_array_equal(session(BATCH), EXACT)
    assert fake.driver.left == 0


def test_a_bound_run_that_is_refused_later_says_so(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    backend = replace(backend_of(fake), cuda_graph=False)
    with backend.open(engine, bundle.root) as session:
        run = session.bind(BATCH)
        fake.fault = "run"
        with pytest.raises(VggDeployError) as caught:
            run()
        fits(caught.value, FILE, r"enqueue a run with .*\.plan: planned: run$")
    assert fake.driver.left == 0


def test_the_reasons_of_an_earlier_batch_are_not_told_again(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    faults: tuple[Fault, ...] = ("context memory", "shape")
    with backend_of(fake).open(engine, bundle.root) as session:
        for fault in faults:
            fake.fault = fault
            with pytest.raises(VggDeployError) as caught:
                session(BATCH)
    fits(caught.value, FILE, r"take the shape .*\.plan: planned: shape$")


def test_a_driver_that_answers_no_more_hides_no_reason(
    bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an illegal access it answers every question with that, even how much is free."""
    bundle, engine, _ = built(bundle, fake)

    def broken() -> tuple[int, int]:
        raise BackendNotAvailable("CUDA: an illegal memory access (cudaMemGetInfo)", "see doctor")

    with backend_of(fake).open(engine, bundle.root) as session:
        session(BATCH)  # nothing is left to allocate
        fake.fault = "run"
        monkeypatch.setattr(fake.driver, "memory", broken)
        with pytest.raises(VggDeployError) as caught:
            session(BATCH)
    fits(caught.value, FILE, r"enqueue a run with .*\.plan: planned: run$")


def test_a_context_that_is_none_is_told_where_its_size_has_no_name(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_of("10")
    bundle, engine, _ = built(bundle, fake)
    monkeypatch.setattr(fake_runtime._Engine, "device_memory_size_v2", property())  # as in 10.0
    with backend_of(fake).open(engine, bundle.root) as session:
        fake.fault = "context"
        with pytest.raises(VggDeployError, match=r"make an execution context .*no reason"):
            session(BATCH)


def test_what_a_second_engine_makes_the_library_say_is_no_reason() -> None:
    said = (
        "The logger passed into createInferRuntime differs from one already provided for an "
        "existing builder, runtime, or refitter. Uses of the global logger will return the first."
    )
    log = Log()
    log.keep("WARNING", said)
    fits(build_failure(log, "open x", None), FILE, "open x: TensorRT gave no reason$")


def test_a_profile_that_is_none_leaves_no_stream_behind(bundle: Bundle) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake)
    assert engine.target is not None
    edited = replace(engine, target=replace(engine.target, batches=((0, 0, 0),)))
    with pytest.raises(UsageError, match="batch profile 0:0:0"):
        opened(fake, edited, bundle)
    assert fake.driver.left == 0


def test_rtx_without_a_gpu_is_not_refused_for_that() -> None:
    """Its library adds the missing driver to every error, though its builder needs none."""
    no_driver = "cudaError 35: CUDA driver version is insufficient for CUDA runtime version"
    log = Log([("ERROR", "Cannot compile"), ("ERROR", no_driver), ("WARNING", no_driver)])
    fits(build_failure(log, "build x", None), FILE, "build x: Cannot compile$")
    alone = build_failure(Log([("ERROR", no_driver)]), "build x", None)
    fits(alone, LIBRARY, f"build x: {no_driver}")


def test_after_an_error_that_cuda_does_not_recover_from_all_is_tried(
    bundle: Bundle, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call fails then, giving back included, and the process goes on with other rows."""
    bundle, engine, _ = built(bundle, fake)
    tried: list[str] = []

    def broken(name: str) -> Callable[[int], None]:
        def call(_: int) -> None:
            tried.append(name)
            raise BackendNotAvailable(f"CUDA: an illegal memory access ({name})", "see nvidia-smi")

        return call

    until = ExitStack()
    session = until.enter_context(backend_of(fake).open(engine, bundle.root))
    session(BATCH)
    session.bind(BATCH)
    graphs, held = len(fake.driver.graphs), len(fake.driver.blocks)
    for name in ("wait", "end_graph", "free", "end_stream"):
        monkeypatch.setattr(fake.driver, name, broken(name))
    with pytest.raises(BackendNotAvailable, match="illegal memory access"):
        until.close()
    assert sorted(tried) == sorted(
        ["wait", *["end_graph"] * graphs, *["free"] * held, "end_stream"]
    )
    assert (tried[0], tried[-1], graphs) == ("wait", "end_stream", 1)
    tried.clear()
    session.close()  # nothing is left to try
    assert not tried
