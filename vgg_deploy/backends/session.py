"""What the backends of the host's processor share: one session class, one way to open and fail."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from vgg_deploy import cuda
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Backend, Missing, Selective, as_input
from vgg_deploy.errors import (
    BackendNotAvailable,
    RefusedInput,
    ResourceLimit,
    VggDeployError,
    first_line,
    require_file,
    says_out_of_memory,
)
from vgg_deploy.libraries import lack_of_memory, why_not

T = TypeVar("T")
TORCH_REMEDY = 'pip install "vgg-deploy[torch]"'
CPU_REMEDY = 'pip install "vgg-deploy[cpu]"'


@dataclass(frozen=True)
class Placed:
    """One input that lies in a runtime: ``run`` computes, ``read`` copies the last output."""

    run: Callable[[], None]
    read: Callable[[], Array]


def kept_from_tf32() -> Missing | None:
    """Where the environment keeps all of NVIDIA's libraries from TF32: it would be fp32."""
    if not cuda.tf32_is_off():
        return None
    return Missing(
        f"{cuda.TF32_VARIABLE}=0 switches TF32 off", f"unset {cuda.TF32_VARIABLE} for it"
    )


Loaded = TypeVar("Loaded")
Place = Callable[[Array], Placed]  # gets a contiguous copy of the artifact's shape and dtype


class HostSession:
    """A session of a runtime that works in host memory and returns when it is done.

    A call and a bound run do not share buffers: calling the session leaves what is bound intact.
    """

    on_gpu: ClassVar[bool] = False  # whose memory runs out

    def __init__(self, name: str, path: Path, artifact: Artifact, place: Place) -> None:
        self._name = name
        self._path = path
        self._artifact = artifact
        self._place: Place | None = place
        self._bound: Placed | None = None

    def __call__(self, batch: Array, /) -> Array:
        """Logits ``[N, classes]`` in an array of the caller's own."""
        place, given = self._require_open(), self._copied(batch)
        with translated(f"{self._name} could not run {self._path}", gpu=self.on_gpu):
            placed = place(given)
            placed.run()
            output: Array = placed.read()
            return output

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """Place a copy of ``batch``; each call of the result is one whole run.

        Nothing stands between the caller and the runtime: the result raises the library's own
        exceptions.
        """
        place, given = self._require_open(), self._copied(batch)
        self._bound = None  # frees the previous buffers first
        with translated(f"{self._name} could not run {self._path}", gpu=self.on_gpu):
            self._bound = place(given)
            return self._bound.run

    def sync(self) -> None:
        """Runs are synchronous; this only refuses a closed session."""
        self._require_open()

    def output(self) -> Array:
        """Logits of the last bound run, to check that what was timed is what was verified."""
        self._require_open()
        if self._bound is None:
            raise RuntimeError(f"nothing is bound in the {self._name} session of {self._path}")
        with translated(f"{self._name} could not run {self._path}", gpu=self.on_gpu):
            last: Array = self._bound.read()
            return last

    def close(self) -> None:
        """Let go of the runtime and its buffers."""
        self._place = self._bound = None

    def _copied(self, batch: Array) -> Array:
        # A copy of our own: writable, as torch wants it, and safe from the caller's changes.
        copied: Array = as_input(batch, self._artifact).copy()
        return copied

    def _require_open(self) -> Place:
        if self._place is None:
            raise RuntimeError(f"the {self._name} session of {self._path} is closed")
        return self._place


@contextmanager
def opened(
    backend: Backend,
    artifact: Artifact,
    root: Path,
    load: Callable[[Path], Loaded],
    make: Callable[[str, Path, Artifact, Loaded], HostSession] | None = None,
) -> Iterator[HostSession]:
    """A session on ``root / artifact.path``; whatever ``load`` raises gets a cause and a remedy.

    ``make`` turns what was loaded into the session; without it that is a ``Place`` of the host.

    ``BackendNotAvailable`` when ``probe`` says so; ``RefusedInput`` for a file that is absent,
    of another format, or that the library refuses; ``ResourceLimit`` when memory runs out.
    """
    path = root / artifact.path
    check_format(backend, artifact, path)
    if missing := backend.probe():
        raise BackendNotAvailable(f"{backend.name}: {missing.reason}", missing.remedy)
    if isinstance(backend, Selective) and (missing := backend.refuses(artifact)):
        raise BackendNotAvailable(f"{backend.name}: {missing.reason}", missing.remedy)
    require_file(path, "artifact")
    with translated(f"{backend.name} could not open {path}", gpu=backend.device == "cuda"):
        loaded = load(path)
    session = (make or _host_session)(backend.name, path, artifact, loaded)
    del loaded  # else this frame would keep the runtime alive after close
    try:
        yield session
    finally:
        session.close()


def _host_session(name: str, path: Path, artifact: Artifact, loaded: object) -> HostSession:
    return HostSession(name, path, artifact, cast("Place", loaded))


def check_format(backend: Backend, artifact: Artifact, path: Path) -> None:
    """Refuse an artifact of a format that the backend does not open."""
    if artifact.format not in backend.formats:
        formats = ", ".join(sorted(backend.formats))
        raise RefusedInput(
            f"{backend.name} opens {formats}, not {artifact.format}: {path}",
            "choose an artifact of that format, or another backend",
        )


@contextmanager
def translated(doing: str, *, gpu: bool = False) -> Iterator[None]:
    """A library's exception becomes a ``VggDeployError`` with the library's first line.

    Where memory is lacking, that of the GPU with ``gpu``, it says how much as far as is known.
    """
    try:
        yield
    except VggDeployError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or says_out_of_memory(str(error)):
            raise _no_memory(doing, str(error), gpu) from error
        if gpu and (said := _OF_CUDA.search(str(error))):
            raise _of_cuda(doing, said[0]) from error
        raise RefusedInput(
            f"{doing}: {first_line(error)}",
            "export the artifact again; if that does not help, the installed library "
            "cannot read this file",
        ) from error


# As torch ("CUDA error: no kernel image is available"), ONNX Runtime ("CUDA failure 35: CUDA driver
# version is insufficient"), cuBLAS and cuDNN say that it was not the file.
_OF_CUDA = re.compile(r"CUDA (?:error|failure)[^\n;]*|(?:CUBLAS|CUDNN)_STATUS_\w+")
_NOT_FOR_THIS_GPU = re.compile(r"no kernel image|version is insufficient|ARCH_MISMATCH")


def _of_cuda(doing: str, said: str) -> BackendNotAvailable:
    """The error for a GPU, its driver or CUDA's libraries that fail."""
    remedy = "see nvidia-smi and the kernel's log (Xid); try it again, or another backend"
    if _NOT_FOR_THIS_GPU.search(said):
        remedy = "install a build of the library for this GPU and driver, or a newer driver"
    return BackendNotAvailable(f"{doing}: {said.strip()}", remedy)


# "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 1.12 GiB is free",
# "you tried to allocate 8589934592 bytes", "allocate memory for requested buffer of size 123".
_WANTED = re.compile(r"(?:tried to allocate|buffer of size) (\d[\d.]*)( ?[KMGT]?i?B\b)?", re.I)
_FREE = re.compile(r"of which (\d[\d.]* ?[KMGT]?i?B) is free", re.I)


def _no_memory(doing: str, said: str, gpu: bool) -> ResourceLimit:
    """What was wanted and what is free: in the library's words, else as the driver counts."""
    wanted, free = _WANTED.search(said), _FREE.search(said)
    size = ""
    if wanted:
        size = wanted[1] + wanted[2] if wanted[2] else f"{int(float(wanted[1])):,} bytes"
    if gpu and not free:
        try:
            lacking = cuda.out_of_memory(size or "more than there is", cuda.driver())
        except BackendNotAvailable:
            pass
        else:
            return ResourceLimit(f"{doing}: {lacking.cause}", lacking.remedy)
    told = [f"{size} wanted"] if size else []
    told += [f"{free[1]} free"] if free else []
    more = f": {', '.join(told)}" if told else ""
    what = "out of GPU memory" if gpu else "not enough memory"
    return ResourceLimit(
        f"{doing}: {what}{more}",
        "use a smaller batch, or end other programs on this GPU"
        if gpu
        else "use a smaller batch, or close other programs",
    )


def logits_of(outputs: Sequence[T], name: Callable[[T], str]) -> T:
    """The output that holds the logits: the only one, or the one of that name.

    ``ValueError``, which ``translated`` tells, where there is none.
    """
    if len(outputs) == 1:
        return outputs[0]
    for output in outputs:
        if name(output) == "logits":
            return output
    names = ", ".join(map(name, outputs))
    raise ValueError(f"none of its outputs is called logits: {names or 'it has none'}")


def only_input(inputs: Sequence[T]) -> T:
    """The one input of a network; ``ValueError`` as for ``logits_of``."""
    if len(inputs) != 1:
        raise ValueError(f"it takes {len(inputs)} inputs instead of one")
    return inputs[0]


def importable(module: str, remedy: str) -> Missing | None:
    """None when ``module`` can be imported; a broken installation is as good as none.

    Raises ``ResourceLimit`` where memory ran out: that says nothing of the installation.
    """
    try:
        importlib.import_module(module)
    except Exception as error:
        if lack := lack_of_memory(module, error):
            raise lack from error
        return Missing(f"{module} {why_not(module, error)}", remedy)
    return None
