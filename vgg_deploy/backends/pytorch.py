"""Backends that are torch itself, and the float64 reference that everything is judged by."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vgg_deploy.artifact import Artifact, Format
from vgg_deploy.backends.base import Array, Device, Missing, Session
from vgg_deploy.backends.networks import (
    Network,
    load_package,
    load_program,
    load_script,
    quiet,
)
from vgg_deploy.backends.session import (
    TORCH_REMEDY,
    Place,
    Placed,
    importable,
    opened,
    threads,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Torch:
    """Eager torch on the CPU: a checkpoint's network, or an exported program."""

    name: str = "torch"
    formats: frozenset[Format] = field(default=frozenset({"checkpoint", "program"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs torch."""
        return importable("torch", TORCH_REMEDY)

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """The network in float32, channels-last where it comes from a checkpoint."""
        load = _load_checkpoint if artifact.format == "checkpoint" else load_program
        return opened(self, artifact, root, lambda path: place_with(load(path)))


@dataclass(frozen=True)
class TorchCompile:
    """``torch.compile`` of a checkpoint's network; each new batch size may compile once."""

    name: str = "torch-compile"
    formats: frozenset[Format] = field(default=frozenset({"checkpoint"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs torch, a C++ compiler and Python's headers."""
        return importable("torch", TORCH_REMEDY) or missing_compiler()

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Loads the network; code is generated in ``bind`` or the first call of a batch size."""
        return opened(self, artifact, root, _load_compiled)


@dataclass(frozen=True)
class TorchScript:
    """A traced and frozen TorchScript file."""

    name: str = "torchscript"
    formats: frozenset[Format] = field(default=frozenset({"torchscript"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs torch."""
        return importable("torch", TORCH_REMEDY)

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """The script as it lies in the file."""
        return opened(self, artifact, root, lambda path: place_with(load_script(path)))


@dataclass(frozen=True)
class Aoti:
    """A package of AOTInductor: machine code that was compiled at export."""

    name: str = "aoti"
    formats: frozenset[Format] = field(default=frozenset({"aoti"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs torch, but no compiler: that ran at export."""
        return importable("torch", TORCH_REMEDY)

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Unpacks and loads the shared library; only for packages that you trust."""
        return opened(self, artifact, root, lambda path: place_with(load_package(path)))


def reference(checkpoint_path: Path, batch: Array, *, chunk: int = 8) -> Array:
    """Float64 logits ``[N, classes]`` of a checkpoint for float32 ``[N, C, H, W]``.

    Torch on the CPU, float64 throughout, ``chunk`` images at a time: VGG-16 at 224 px needs
    1.1 GB for its weights and about 0.1 GB per image of a chunk. ``ValueError`` for an empty
    batch; ``RefusedInput`` for a file that is no checkpoint.
    """
    import torch

    from vgg_deploy.model.checkpoint import load_model

    if batch.shape[0] == 0 or chunk < 1:
        raise ValueError(f"nothing to compute: batch {batch.shape}, chunk {chunk}")
    model = load_model(checkpoint_path).double()
    parts = []
    with torch.inference_mode():
        for start in range(0, batch.shape[0], chunk):
            images = torch.from_numpy(batch[start : start + chunk].astype(np.float64))
            parts.append(model(images).numpy())
    logits: Array = np.concatenate(parts)
    return logits


def place_with(network: Network) -> Place:
    """Sessions of anything that maps a torch tensor to a torch tensor in host memory."""
    import torch

    exact_float32()

    def place(batch: Array) -> Placed:
        images = torch.from_numpy(batch)
        last: list[torch.Tensor] = []

        def run() -> None:
            with torch.inference_mode():
                last[:] = (network(images),)

        return Placed(run, lambda: last[0].numpy().copy())

    return place


def exact_float32() -> None:
    """Fp32 means fp32: no TF32 or bf16 inside, and as many threads as the other backends.

    These switches belong to the process; whoever trained before in it may have moved them.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    # Not covered by the two above: oneDNN's convolutions on the CPU.
    torch.backends.mkldnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    if torch.get_num_threads() != threads():
        torch.set_num_threads(threads())


def missing_compiler() -> Missing | None:
    """What ``torch.compile`` lacks on this machine, or None."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    if not any(shutil.which(name) for name in names):
        how = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
        return Missing(f"no C++ compiler ({', '.join(names)})", f"install one: {how}")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return Missing("Python's C headers are not installed", "apt install python3-dev")
    return None


def _load_checkpoint(path: Path) -> Network:
    import torch

    from vgg_deploy.model.checkpoint import load_model

    network = load_model(path).to(memory_format=torch.channels_last)
    return lambda images: network(images.contiguous(memory_format=torch.channels_last))


def _load_compiled(path: Path) -> Place:
    """Compiled per batch size when a batch is placed, so that no timed run compiles."""
    import torch

    from vgg_deploy.model.checkpoint import load_model

    compiled = torch.compile(load_model(path), dynamic=False)
    place = place_with(compiled)

    def place_and_compile(batch: Array) -> Placed:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
        placed = place(batch)
        with quiet():
            placed.run()
        return placed

    return place_and_compile
