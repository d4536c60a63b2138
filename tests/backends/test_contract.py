"""One suite over every backend and format, the fake included."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from tests.conftest import make_bundle, make_card
from vgg_deploy.artifact import Format
from vgg_deploy.backends import BACKENDS, get_backend
from vgg_deploy.backends.base import Array, Backend, Missing, Session
from vgg_deploy.backends.fake import FakeBackend, project, weights_for
from vgg_deploy.backends.reference import reference
from vgg_deploy.backends.session import HostSession
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.pipeline.export import embed_preprocessing, export_bundle

FAKE = FakeBackend(strict=True)
CELLS: list[tuple[str, Format]] = [
    *(
        (name, kind)
        for name, b in BACKENDS.items()
        if b.device == "cpu"
        for kind in sorted(b.formats)
    ),
    (FAKE.name, "checkpoint"),
]
LIBRARY = {"ort-cpu": "onnxruntime", "openvino": "openvino"}
BATCH = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = make_bundle(tmp_path_factory.mktemp("contract") / "bundle", make_card())
    return embed_preprocessing(export_bundle(made)[0], EmbeddedOptions())[0]


@pytest.fixture(params=CELLS, ids="-".join)
def cell(request: pytest.FixtureRequest) -> tuple[str, Format]:
    found: tuple[str, Format] = request.param
    return found


@pytest.fixture
def batch(cell: tuple[str, Format]) -> Array:
    """Five inputs of the kind that the cell takes: float32 NCHW, or images uint8 NHWC."""
    return PIXELS if cell[1] == "embedded" else BATCH


def backend_of(cell: tuple[str, Format]) -> Backend:
    return FAKE if cell[0] == FAKE.name else get_backend(cell[0])


def exact_logits(bundle: Bundle, cell: tuple[str, Format]) -> Array:
    if cell[0] == FAKE.name:
        return project(BATCH, weights_for(BATCH, 10))
    images = preprocess(PIXELS, bundle.card.preprocessing) if cell[1] == "embedded" else BATCH
    return reference(bundle.path(bundle.checkpoint), images)


@contextmanager
def opened(bundle: Bundle, cell: tuple[str, Format]) -> Iterator[Session]:
    artifact = bundle.find(cell[1])
    assert artifact is not None
    with backend_of(cell).open(artifact, bundle.root) as session:
        yield session


def test_is_usable_here(cell: tuple[str, Format]) -> None:
    assert backend_of(cell).probe() is None


def test_the_networks_logits_follow_the_input(bundle: Bundle) -> None:
    """Else the comparisons below would compare biases."""
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    assert np.ptp(exact, axis=0).max() > 0.1 * np.abs(exact).max()


def test_outputs_are_the_references_at_every_batch(
    bundle: Bundle, cell: tuple[str, Format], batch: Array
) -> None:
    exact = exact_logits(bundle, cell)
    with opened(bundle, cell) as session:
        for size in (1, 2, 5):
            logits = session(batch[:size])
            assert logits.shape == (size, 10)
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, exact[:size], atol=1e-4)


def test_calls_repeat_and_leave_the_input_alone(
    bundle: Bundle, cell: tuple[str, Format], batch: Array
) -> None:
    given = batch[:2].copy()
    with opened(bundle, cell) as session:
        first = session(given)
        kept = first.copy()
        assert np.array_equal(session(given), kept)
        session(batch[2:4])
        assert np.array_equal(first, kept), "an earlier output was overwritten"
    assert np.array_equal(given, batch[:2])


def test_layout_and_dtype_of_the_caller_do_not_matter(
    bundle: Bundle, cell: tuple[str, Format], batch: Array
) -> None:
    with opened(bundle, cell) as session:
        expected = session(batch[:2])
        strided = np.asfortranarray(batch[:2])
        assert np.array_equal(session(strided), expected)
        assert np.array_equal(session(batch[:2].astype(np.float64)), expected)
        frozen = batch[:2].copy()
        frozen.setflags(write=False)
        assert np.array_equal(session(frozen), expected)


def test_bound_runs_do_not_disturb_calls(
    bundle: Bundle, cell: tuple[str, Format], batch: Array
) -> None:
    with opened(bundle, cell) as session:
        expected = session(batch[:1])
        run = session.bind(batch[:2])
        for _ in range(3):
            run()
        session.sync()
        assert np.array_equal(session(batch[:1]), expected)


def test_a_bound_run_computes_what_a_call_does(
    bundle: Bundle, cell: tuple[str, Format], batch: Array
) -> None:
    given = batch[:2].copy()
    with opened(bundle, cell) as session:
        assert isinstance(session, HostSession)
        with pytest.raises(RuntimeError, match="nothing is bound"):
            session.output()
        run = session.bind(given)
        given[:] = 0  # what was bound is the session's own
        session(batch[2:4])
        run()
        session.sync()
        assert np.array_equal(session.output(), session(batch[:2]))


def test_two_sessions_at_once(bundle: Bundle, cell: tuple[str, Format], batch: Array) -> None:
    with opened(bundle, cell) as first:
        expected = first(batch)
        with opened(bundle, cell) as second:
            assert np.array_equal(second(batch), expected)
        assert np.array_equal(first(batch), expected)


@pytest.mark.parametrize("shape", [(0, 1, 32, 32), (1, 3, 32, 32), (1, 1, 31, 32), (32, 32)])
def test_wrong_shapes_are_refused(
    bundle: Bundle, cell: tuple[str, Format], shape: tuple[int, ...]
) -> None:
    with opened(bundle, cell) as session, pytest.raises(ValueError, match="input"):
        session(np.zeros(shape, np.float32))


def test_a_closed_session_says_so(bundle: Bundle, cell: tuple[str, Format], batch: Array) -> None:
    with opened(bundle, cell) as session:
        pass
    for use in (session, session.bind, lambda _: session.sync()):
        with pytest.raises(RuntimeError, match="closed"):
            use(batch)


def test_works_from_another_thread(bundle: Bundle, cell: tuple[str, Format], batch: Array) -> None:
    results: list[Array] = []
    with opened(bundle, cell) as session:
        expected = session(batch[:1])
        thread = Thread(target=lambda: results.append(session(batch[:1])))
        thread.start()
        thread.join()
    assert np.array_equal(results[0], expected)


def test_a_corrupt_file_is_refused(
    bundle: Bundle, cell: tuple[str, Format], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = bundle.find(cell[1])
    assert artifact is not None
    (tmp_path / artifact.path).write_bytes(b"not what it says it is" * 10)
    with (
        pytest.raises(RefusedInput, match=str(artifact.path)),
        backend_of(cell).open(artifact, tmp_path),
    ):
        pass
    assert capfd.readouterr() == ("", "")


def test_an_absent_file_and_another_format_are_refused(
    bundle: Bundle, cell: tuple[str, Format], tmp_path: Path
) -> None:
    artifact = bundle.find(cell[1])
    assert artifact is not None
    with (
        pytest.raises(RefusedInput, match="does not exist"),
        backend_of(cell).open(artifact, tmp_path),
    ):
        pass
    other = replace(artifact, format="engine")
    if "engine" not in backend_of(cell).formats:
        with (
            pytest.raises(RefusedInput, match="not engine"),
            backend_of(cell).open(other, bundle.root),
        ):
            pass


def test_a_run_says_nothing(
    bundle: Bundle, cell: tuple[str, Format], batch: Array, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(bundle, cell) as session:
        session(batch)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("broken", [False, True], ids=["absent", "broken"])
def test_a_missing_library_is_said_with_its_remedy(
    bundle: Bundle, cell: tuple[str, Format], broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(cell)
    library = LIBRARY.get(cell[0], "torch")
    absent = ModuleNotFoundError(f"No module named {library!r}", name=library)
    error = ImportError("libx.so: cannot open\nmore") if broken else absent
    monkeypatch.setattr(importlib, "import_module", raising(error))
    if cell[0] == FAKE.name:
        backend = replace(FAKE, missing=Missing("fake is not installed", "pip install fake"))
    missing = backend.probe()
    assert missing is not None
    assert "pip install" in missing.remedy
    if cell[0] != FAKE.name:
        wanted = "cannot be imported: libx.so: cannot open" if broken else "is not installed"
        assert missing.reason == f"{library} {wanted}"
    artifact = bundle.find(cell[1])
    assert artifact is not None
    with pytest.raises(BackendNotAvailable), backend.open(artifact, bundle.root):
        pass


def raising(error: Exception) -> Callable[[str], None]:
    def import_module(name: str) -> None:
        raise error

    return import_module


def test_unknown_backend_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        get_backend("openvin")
    assert "did you mean 'openvino'" in caught.value.remedy
