"""Sessions on engines of every TensorRT, over a library and a driver that are fakes.

The names that our code uses are those of the real bindings (see ``fake_tensorrt``); memory, streams
and graphs behave as CUDA's do: nothing runs before somebody waits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from tests.trt.fake_cuda import H100
from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import ADA, backend_of, built, fake_of
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Described, OnStream
from vgg_deploy.backends.fake import project, weights_for
from vgg_deploy.backends.tensorrt import EngineSession, TensorRt
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    RefusedInput,
    ResourceLimit,
    StaleEngine,
)
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.profile import Profile

BATCH = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
EXACT = project(BATCH, weights_for(BATCH, 10)).astype(np.float32)
SMALL = BuildOptions(profiles=(Profile(1, 1, 2), Profile(1, 4, 4)))


def test_calls_give_the_engines_output_at_every_batch(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        for size in (1, 2, 5, 1):
            np.testing.assert_array_equal(session(BATCH[:size]), EXACT[:size])
    assert fake.driver.left == 0, "memory, streams or graphs were not given back"


def test_a_bound_run_is_a_graph_captured_after_one_run(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        batch = BATCH[:2].copy()
        run = session.bind(batch)
        batch[:] = 0  # what was bound is the session's own
        assert fake.driver.captures == 1
        for _ in range(3):
            run()
        session.sync()
        assert fake.driver.launches == 3
        np.testing.assert_array_equal(session.output(), EXACT[:2])
        assert session.modes == {"cuda_graph": "on", "tf32": "off"}
    assert fake.driver.left == 0


def test_another_batch_is_captured_again_and_the_old_run_refuses(
    bundle: Bundle, fake: Fake
) -> None:
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        first = session.bind(BATCH[:2])
        second = session.bind(BATCH[:5])
        assert fake.driver.captures == 2
        assert len(fake.driver.graphs) == 1, "the graph of the first batch was not given back"
        with pytest.raises(RuntimeError, match="no longer bound"):
            first()
        second()
        session.sync()
        np.testing.assert_array_equal(session.output(), EXACT)


def test_calls_between_bound_runs_leave_them_alone(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        run = session.bind(BATCH[:2])
        np.testing.assert_array_equal(session(BATCH[2:5]), EXACT[2:5])
        run()
        np.testing.assert_array_equal(session(BATCH[:1]), EXACT[:1])
        np.testing.assert_array_equal(session.output(), EXACT[:2])
    assert fake.driver.captures == 1


def test_without_a_graph_the_runs_are_enqueued_one_by_one(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    backend = replace(backend_of(fake), cuda_graph=False)
    with backend.open(engine, bundle.root) as session:
        run = session.bind(BATCH[:2])
        run()
        session.sync()
        np.testing.assert_array_equal(session.output(), EXACT[:2])
        assert session.modes["cuda_graph"] == "off"
    assert (fake.driver.captures, fake.driver.launches) == (0, 0)


def test_rtx_is_asked_whether_it_can_be_captured(bundle: Bundle) -> None:
    fake = fake_of("rtx")
    fake.capturable = False
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        run = session.bind(BATCH[:2])
        run()
        np.testing.assert_array_equal(session.output(), EXACT[:2])
        assert session.modes["cuda_graph"] == "off"
    assert fake.driver.captures == 0


def test_rtx_makes_the_kernels_of_a_shape_before_it_runs(bundle: Bundle, fake: Fake) -> None:
    """Its own way is to run others meanwhile: a graph would keep those, verify would judge them."""
    bundle, engine, _ = built(bundle, fake)
    with backend_of(fake).open(engine, bundle.root) as session:
        session(BATCH)
        session.bind(BATCH)
    strategy = "dynamic_shapes_kernel_specialization_strategy"
    names = [{key: value.name for key, value in asked.items()} for asked in fake.contexts]
    assert names == [{strategy: "EAGER"} if fake.name == "rtx" else {}] * 2


def test_the_profile_is_chosen_by_batch(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake, SMALL)
    with backend_of(fake).open(engine, bundle.root) as session:
        session(BATCH[:1])
        session(BATCH[:4])
        session(BATCH[:3])
    assert fake.used_profiles == [0, 1], "a profile is set only when it changes"
    assert [shape[0] for shape in fake.shapes] == [1, 4, 3]


def test_a_call_beyond_the_largest_profile_is_run_in_pieces(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake, SMALL)
    with backend_of(fake).open(engine, bundle.root) as session:
        np.testing.assert_array_equal(session(BATCH), EXACT)
    assert [shape[0] for shape in fake.shapes] == [4, 1]


@pytest.mark.parametrize(("size", "copies"), [(2, [2]), (5, [4, 1])])
def test_a_call_copies_its_input_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, size: int, copies: list[int]
) -> None:
    """150 MB at batch 256, which a user of ``predict`` would pay for twice."""
    made, copied = [], EngineSession._copied

    def counted(session: EngineSession, batch: Array) -> Array:
        made.append(len(batch))
        return copied(session, batch)

    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake, SMALL)
    monkeypatch.setattr(EngineSession, "_copied", counted)
    with backend_of(fake).open(engine, bundle.root) as session:
        np.testing.assert_array_equal(session(BATCH[:size]), EXACT[:size])
    assert made == copies


def test_a_bound_batch_outside_the_profiles_is_refused(bundle: Bundle, fake: Fake) -> None:
    options = BuildOptions(profiles=(Profile(2, 2, 4),))
    bundle, engine, _ = built(bundle, fake, options)
    with backend_of(fake).open(engine, bundle.root) as session:
        for use in (session.bind, session):
            with pytest.raises(RefusedInput, match=r"batch 1 is outside the profiles.*2:2:4"):
                use(BATCH[:1])
        with pytest.raises(RefusedInput, match="batch 5 is outside") as caught:
            session.bind(BATCH)
        assert "--batch 2:2:4" in caught.value.remedy
        np.testing.assert_array_equal(session(BATCH[:2]), EXACT[:2])
    assert fake.driver.left == 0


def test_other_threads_two_sessions_and_closed_ones(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    backend, results = backend_of(fake), []
    with backend.open(engine, bundle.root) as first, backend.open(engine, bundle.root) as second:
        thread = Thread(target=lambda: results.append(second(BATCH)))
        thread.start()
        thread.join()
        np.testing.assert_array_equal(results[0], first(BATCH))
        assert isinstance(first, OnStream)
        assert isinstance(first, Described)
        assert first.stream not in (0, second.stream), "not the default stream, nor a shared one"
    uses = (first, first.bind, lambda _: first.sync(), lambda _: first.output())
    for use in uses:
        with pytest.raises(RuntimeError, match="closed"):
            use(BATCH)
    first.close()


@pytest.mark.parametrize("shape", [(0, 1, 32, 32), (1, 3, 32, 32), (1, 1, 31, 32), (32, 32)])
def test_wrong_shapes_are_refused(bundle: Bundle, shape: tuple[int, ...]) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake)
    with (
        backend_of(fake).open(engine, bundle.root) as session,
        pytest.raises(ValueError, match="input"),
    ):
        session(np.zeros(shape, np.float32))


def edited(artifact: Artifact, root: Path) -> None:
    path = root / artifact.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_exit_4_before_anything_is_deserialized(
    bundle: Bundle, fake: Fake
) -> None:
    bundle, engine, _ = built(bundle, fake)
    edited(engine, bundle.root)
    with pytest.raises(DigestMismatch, match="not the plan that was built") as caught:
        opened(fake, engine, bundle)
    assert caught.value.exit_code == 4
    assert fake.driver.left == 0


def opened(fake: Fake, engine: Artifact, bundle: Bundle) -> EngineSession:
    with backend_of(fake).open(engine, bundle.root) as session:
        return session


def test_a_plan_for_another_gpu_is_exit_5_with_the_command(bundle: Bundle) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake)
    fake.driver.card = replace(ADA, cuda="12.6")
    with pytest.raises(StaleEngine) as caught:
        opened(fake, engine, bundle)
    assert caught.value.exit_code == 5
    for text in ("compute capability 9.0, here 8.9", "GPU NVIDIA H100, here NVIDIA RTX 4090"):
        assert text in caught.value.cause
    assert "CUDA 13.0, here 12.6" in caught.value.cause
    wanted = f"vgg-deploy build {bundle.root} --flavour tensorrt --precision fp32 --batch 1:8:64"
    assert wanted in caught.value.remedy


def test_a_plan_of_another_tensorrt_is_exit_5(bundle: Bundle) -> None:
    bundle, engine, _ = built(bundle, fake_of("10"))
    with pytest.raises(StaleEngine, match=r"tensorrt 10\.14\.1\.48\S*, here 11\.4\.0\.106"):
        opened(fake_of("11"), engine, bundle)
    _, other, _ = built(bundle, fake_of("rtx", ADA))
    with pytest.raises(StaleEngine, match="flavour tensorrt_rtx, here tensorrt"):
        opened(fake_of("11"), other, bundle)


def test_compatible_plans_are_opened_where_they_say(bundle: Bundle) -> None:
    options = BuildOptions(version_compatible=True, hardware_compatible=True)
    bundle, engine, _ = built(bundle, fake_of("10"), options)
    assert engine.path.name == "model.fp32.trt10.sm80+.plan"
    newer = fake_of("11", ADA)
    with backend_of(newer).open(engine, bundle.root) as session:
        np.testing.assert_array_equal(session(BATCH), EXACT)
    older = fake_of("8.6", replace(ADA, compute_capability="7.5"))
    with pytest.raises(StaleEngine, match=r"here 8\.6\.0; compute capability 8\.0\+, here 7\.5"):
        opened(older, engine, bundle)


def test_an_engine_that_is_not_in_a_manifest_is_refused(bundle: Bundle) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake)
    with pytest.raises(RefusedInput, match="does not say what"):
        opened(fake, replace(engine, target=None), bundle)
    (bundle.root / "stranger.plan").write_bytes(b"native code")
    with pytest.raises(RefusedInput, match="its manifest does not name it"):
        bundle.named("stranger.plan")


def test_a_plan_without_weights_gets_them_from_its_onnx(bundle: Bundle) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake, BuildOptions(strip_weights=True))
    assert {"STRIP_PLAN", "REFIT_IDENTICAL"} <= fake.flags
    with backend_of(fake).open(engine, bundle.root) as session:
        np.testing.assert_array_equal(session(BATCH), EXACT)
    assert fake.refitted == [str(bundle.root / "model.fp32.onnx")]
    (bundle.root / "model.fp32.onnx").write_bytes(b"other weights")
    with pytest.raises(StaleEngine, match=r"model\.fp32\.onnx is not the file it was built from"):
        opened(fake, engine, bundle)


def test_no_gpu_memory_says_how_much_was_wanted_and_is_free(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    fake.driver.total = 3000  # bytes: not enough for one image
    with (
        backend_of(fake).open(engine, bundle.root) as session,
        pytest.raises(ResourceLimit, match=r"4,096 bytes wanted, 0\.00 of 0\.00 GB are free"),
    ):
        session(BATCH[:1])
    assert fake.driver.left == 0


def test_no_memory_for_a_context_says_so(bundle: Bundle, fake: Fake) -> None:
    bundle, engine, _ = built(bundle, fake)
    fake.fault = "context"
    said = r"make an execution context with .*: 3\.22 GB wanted, 1\.07 of 1\.07 GB are free$"
    with (
        backend_of(fake).open(engine, bundle.root) as session,
        pytest.raises(ResourceLimit, match=said),
    ):
        session(BATCH[:1])


def test_a_machine_without_a_gpu_says_what_is_missing(bundle: Bundle) -> None:
    fake = fake_of("11")
    bundle, engine, _ = built(bundle, fake)
    fake.driver.missing = "no NVIDIA GPU is visible"
    missing = backend_of(fake).probe()
    assert missing is not None
    assert missing.reason == "no NVIDIA GPU is visible"
    with pytest.raises(BackendNotAvailable, match="trt: no NVIDIA GPU is visible"):
        opened(fake, engine, bundle)


def test_a_gpu_that_the_library_does_not_know_is_no_gpu_for_it() -> None:
    """TensorRT-RTX has no Hopper: every engine and every build would fail there."""
    missing = backend_of(fake_of("rtx", H100)).probe()
    assert missing is not None
    assert missing.reason == "TensorRT-RTX knows no compute capability 9.0"
    assert "run trt" in missing.remedy
    assert backend_of(fake_of("rtx", ADA)).probe() is None
    assert backend_of(fake_of("11", H100)).probe() is None


def test_which_engines_a_backend_would_open(bundle: Bundle) -> None:
    fake, rtx = fake_of("11"), fake_of("rtx")
    bundle, engine, _ = built(bundle, fake)
    bundle, other, _ = built(bundle, rtx)
    assert backend_of(fake).refuses(engine) is None
    assert "engine of tensorrt_rtx" in said(backend_of(fake), other)
    assert backend_of(rtx).refuses(other) is None
    fake.driver.card = ADA
    assert "compute capability 9.0, here 8.9" in said(backend_of(fake), engine)


def said(backend: TensorRt, artifact: Artifact) -> str:
    missing = backend.refuses(artifact)
    assert missing is not None
    return missing.reason


def test_batches_come_in_any_layout_and_type(bundle: Bundle) -> None:
    fake = fake_of("10")
    bundle, engine, _ = built(bundle, fake)
    frozen: Array = BATCH.copy()
    frozen.setflags(write=False)
    with backend_of(fake).open(engine, bundle.root) as session:
        for batch in (np.asfortranarray(BATCH), BATCH.astype(np.float64), frozen):
            np.testing.assert_array_equal(session(batch), EXACT)
