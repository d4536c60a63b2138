"""TensorRT and TensorRT-RTX engines, without torch: numpy, the library and ``cuda-bindings``.

One code for every flavour. A plan is native code, so it is opened only when the manifest says that
it was built for this library and GPU, and its digest holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from vgg_deploy import cuda
from vgg_deploy.artifact import Artifact, Flavour, Format
from vgg_deploy.backends.base import Array, Device, Missing
from vgg_deploy.backends.engine import Engine, open_engine
from vgg_deploy.backends.session import HostSession, check_format, kept_from_tf32, translated
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    VggDeployError,
    require_file,
)
from vgg_deploy.files import sha256_of
from vgg_deploy.trt.flavour import Library, load
from vgg_deploy.trt.match import require_fit, target_of


@dataclass(frozen=True)
class TensorRt:
    """Plans of one flavour. ``cuda_graph`` replays bound runs from a captured graph."""

    name: str = "trt"
    flavour: Flavour = "tensorrt"
    cuda_graph: bool = True
    formats: frozenset[Format] = field(default=frozenset({"engine"}))
    device: Device = "cuda"
    library: Callable[[], Library] | None = None  # None: the one that can be imported
    driver: Callable[[], cuda.Driver] = cuda.driver

    def probe(self) -> Missing | None:
        """Needs the flavour's library, cuda-bindings, a driver and a GPU that the library knows."""
        try:
            gpu = self.driver().gpu()  # first: 230 MB of library are not loaded where none is
            traits = self._library().traits
        except BackendNotAvailable as error:
            return Missing(error.cause, error.remedy)
        if traits.knows(gpu.compute_capability):
            return None
        return Missing(
            f"{traits.label} knows no compute capability {gpu.compute_capability}",
            f"it knows {', '.join(traits.compute_capabilities)}; other GPUs run trt",
        )

    def refuses(self, artifact: Artifact, /) -> Missing | None:
        """An engine of the other flavour, built for another place than this, or kept from TF32."""
        if artifact.target and artifact.target.flavour != self.flavour:
            return Missing(f"{artifact.path} is an engine of {artifact.target.flavour}", "")
        if artifact.precision == "tf32" and (missing := kept_from_tf32()):
            return missing
        if self.probe():
            return None
        try:
            self.require_fit(artifact, Path())
        except VggDeployError as error:
            return Missing(error.cause, error.remedy)
        return None

    def require_fit(self, artifact: Artifact, root: Path) -> None:
        """Raise ``StaleEngine`` with what differs and the command that builds it anew."""
        require_fit(artifact, root, self._library(), self.driver().gpu())

    @contextmanager
    def open(self, artifact: Artifact, root: Path, /) -> Iterator[EngineSession]:
        """Raises ``StaleEngine`` (5) and ``DigestMismatch`` (4) before the plan is deserialized."""
        path = root / artifact.path
        check_format(self, artifact, path)
        if missing := self.probe():
            raise BackendNotAvailable(f"{self.name}: {missing.reason}", missing.remedy)
        require_file(path, "engine")
        target_of(artifact)
        self.require_fit(artifact, root)
        _require_digest(artifact, path)
        with translated(f"{self.name} could not open {path}"):
            engine = open_engine(self._library(), self.driver(), artifact, root, self.cuda_graph)
        session = EngineSession(self.name, path, artifact, engine)
        try:
            yield session
        finally:
            session.close()

    def _library(self) -> Library:
        return self.library() if self.library else load(self.flavour)


class EngineSession(HostSession):
    """A session on a GPU: bound runs are enqueued on a stream of its own; ``sync`` waits."""

    def __init__(self, name: str, path: Path, artifact: Artifact, engine: Engine) -> None:
        super().__init__(name, path, artifact, partial(engine.place, keep=False))
        self._engine = engine

    def __call__(self, batch: Array, /) -> Array:
        """Host to host; a batch beyond the largest profile is run in pieces."""
        largest = self._engine.largest
        if batch.ndim == 0 or len(batch) <= largest:
            return super().__call__(batch)
        pieces = [batch[i : i + largest] for i in range(0, len(batch), largest)]
        outputs = [super(EngineSession, self).__call__(piece) for piece in pieces]
        joined: Array = np.concatenate(outputs)
        return joined

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """Place the input, run once, capture; each call of the result enqueues one run."""
        self._require_open()
        given = self._copied(batch)
        self._bound = None
        with translated(f"{self._name} could not run {self._path}"):
            self._bound = self._engine.place(given, keep=True)
        return self._bound.run

    def sync(self) -> None:
        """Wait for the stream."""
        self._require_open()
        self._engine.wait()

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that bound runs are enqueued on."""
        return self._engine.stream

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        tf32 = self._artifact.made_by.get("tf32", "no")
        graph = "on" if self._engine.captured else "off"
        return {"cuda_graph": graph, "tf32": "on" if tf32 == "yes" else "off"}

    def close(self) -> None:
        """Let go of buffers, graph, stream and engine."""
        super().close()
        self._engine.close()


def _require_digest(artifact: Artifact, path: Path) -> None:
    """The plan that was recorded, or nothing: it is about to be run."""
    if path.stat().st_size == artifact.size_bytes and sha256_of(path) == artifact.sha256:
        return
    raise DigestMismatch(
        f"{path} is not the plan that was built: its SHA-256 differs from the manifest's",
        "restore the file, or build it again with vgg-deploy build",
    )
