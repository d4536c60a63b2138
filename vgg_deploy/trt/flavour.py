"""How TensorRT 8.6, 10, 11 and TensorRT-RTX differ: a table of data, and finding the library.

Flags and levels are kept by name: their numbers change between versions (``STRONGLY_TYPED`` is
bit 1 of TensorRT 10 and bit 0 of 11). Sources: the libraries' own Python bindings, whose names
``scripts/trt_api.py`` lists, and builds with TensorRT-RTX (docs/LOG.md).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from vgg_deploy.artifact import Flavour, Precision
from vgg_deploy.errors import BackendNotAvailable, UsageError

Option = Literal["hardware-compatible", "version-compatible", "strip-weights"]

_HALF: frozenset[Precision] = frozenset({"fp32", "tf32", "fp16", "int8"})
_ALL: frozenset[Precision] = _HALF | {"bf16", "fp8"}


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One row: what holds for the versions from ``since`` up to the next row of its flavour."""

    flavour: Flavour
    since: tuple[int, int]
    label: str
    modules: tuple[str, ...]  # the first that can be imported
    install: str
    network_flags: tuple[str, ...]  # NetworkDefinitionCreationFlag
    typed_by_graph: bool  # strongly typed: the ONNX graph alone decides precisions
    # Builder flag per ONNX tensor type, where the graph alone does not decide.
    type_flags: Mapping[str, str] = field(default_factory=dict)
    precisions: frozenset[Precision] = _ALL
    int8_constants: bool = True  # its parser takes weights that are stored in int8
    fuses_across_pairs: bool = True  # a convolution and its ReLU, with Q/DQ between the two
    preview_features: tuple[str, ...] = ()
    timing_cache: bool = True
    # How kernels for one shape are made; empty: all are made while building.
    specialisation: str = ""
    # Builder flags of the options it has; others are refused with the reason.
    options: Mapping[Option, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[Option, str] = field(default_factory=dict)
    on_gpu_only: frozenset[Option] = frozenset()  # options that need a GPU while building
    # What it can build for; empty: only for the GPU it runs on.
    compute_capabilities: tuple[str, ...] = ()
    # Pairs that cannot be built, with the reason.
    impossible: Mapping[tuple[str, Precision], str] = field(default_factory=dict)
    device_memory: str = "device_memory_size_v2"
    tensors_key: str = "I/O Tensors"  # in the engine inspector's JSON
    type_key: str = "Datatype"

    def knows(self, capability: str) -> bool:
        """Whether it builds for GPUs of a compute capability, and runs there."""
        return not self.compute_capabilities or capability in self.compute_capabilities


_WITHOUT_TF32 = ("5.0", "5.2", "5.3", "6.0", "6.1", "6.2", "7.0", "7.2", "7.5")
_TENSORRT: dict[str, Any] = {
    "flavour": "tensorrt",
    "modules": ("tensorrt",),
    "install": 'pip install "vgg-deploy[tensorrt]", or NVIDIA\'s packages for this machine',
    # unlike TensorRT-RTX it builds then, in fp32
    "impossible": {(capability, "tf32"): "TF32 came with 8.0" for capability in _WITHOUT_TF32},
}
_FROM_10: dict[Option, tuple[str, ...]] = {
    "hardware-compatible": (),
    "version-compatible": ("VERSION_COMPATIBLE",),
    "strip-weights": ("STRIP_PLAN", "REFIT_IDENTICAL"),
}

TRAITS: tuple[Traits, ...] = (
    Traits(
        **_TENSORRT,
        since=(8, 6),
        label="TensorRT 8.6",
        network_flags=("EXPLICIT_BATCH",),
        typed_by_graph=False,
        type_flags={"FLOAT16": "FP16", "INT8": "INT8"},
        precisions=_HALF,
        int8_constants=False,
        fuses_across_pairs=False,
        # two contexts on one profile, which later versions allow unasked
        preview_features=("PROFILE_SHARING_0806",),
        options={
            "hardware-compatible": (),
            "version-compatible": ("VERSION_COMPATIBLE",),
        },
        refused={"strip-weights": "plans without weights came with TensorRT 10"},
        device_memory="device_memory_size",
        tensors_key="Bindings",
        type_key="Format/Datatype",
    ),
    Traits(
        **_TENSORRT,
        since=(10, 0),
        label="TensorRT 10",
        network_flags=("STRONGLY_TYPED",),
        typed_by_graph=True,
        options=_FROM_10,
        tensors_key="Bindings",
        type_key="Format/Datatype",
    ),
    Traits(
        **_TENSORRT,
        since=(11, 0),
        label="TensorRT 11",
        network_flags=("STRONGLY_TYPED",),
        typed_by_graph=True,
        options=_FROM_10,
    ),
    Traits(
        flavour="tensorrt_rtx",
        since=(1, 0),
        label="TensorRT-RTX",
        modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        install='pip install "vgg-deploy[rtx]"',
        network_flags=("STRONGLY_TYPED",),
        typed_by_graph=True,
        timing_cache=False,  # kernels are chosen on the user's GPU, not while building
        # its own choice is LAZY: others stand in meanwhile, and a graph would keep those
        specialisation="EAGER",
        options={"strip-weights": ("STRIP_PLAN", "REFIT_IDENTICAL")},
        on_gpu_only=frozenset({"strip-weights"}),
        refused={
            "hardware-compatible": "name the GPUs instead: --compute-capability, repeated",
            "version-compatible": "its lean runtime is not shipped",
        },
        compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
        impossible={
            ("7.5", "fp32"): "Turing has no FP32 GEMM there",
            ("7.5", "tf32"): "Turing has no TF32",
            ("7.5", "bf16"): "Turing has no BF16",
            ("7.5", "fp8"): "Turing has no FP8",
            ("8.0", "fp8"): "FP8 begins with 8.9",
            ("8.6", "fp8"): "FP8 begins with 8.9",
        },
    ),
)


@dataclass(frozen=True)
class Library:
    """An imported TensorRT: its module, its version and its row of the table."""

    module: Any
    version: str
    traits: Traits

    def make(self, kind: str, *args: Any) -> Any:
        """An object of the library, or None where it refuses: the reason is in its log.

        The bindings raise their null pointer as a ``TypeError`` without a reason.
        """
        try:
            return getattr(self.module, kind)(*args)
        except TypeError as error:
            if "nullptr" not in str(error):
                raise
            return None

    def flags(self, enum: str, names: tuple[str, ...]) -> int:
        """Bits of the named members of an enum, with the numbers of this version."""
        members = getattr(self.module, enum)
        bits = 0
        for name in names:
            bits |= 1 << int(getattr(members, name))
        return bits


def load(flavour: Flavour) -> Library:
    """Import a flavour's library, or ``BackendNotAvailable`` with what to install.

    A binary for another Python, an unknown version and a missing shared library are told apart.
    """
    rows = [row for row in TRAITS if row.flavour == flavour]
    module = _import(rows[-1])
    version = str(module.__version__)
    return Library(module, version, row_for(flavour, version))


def row_for(flavour: Flavour, version: str) -> Traits:
    """The table's row for a version: the newest that is not newer."""
    number = version_of(version)
    rows = [row for row in TRAITS if row.flavour == flavour and row.since <= number[:2]]
    if not rows:
        oldest = min(row.since for row in TRAITS if row.flavour == flavour)
        raise BackendNotAvailable(
            f"{flavour} {version} is too old: {oldest[0]}.{oldest[1]} is the oldest that is known",
            "install a newer one",
        )
    return rows[-1]


def version_of(text: str) -> tuple[int, ...]:
    """``"10.14.1.48.post1"`` as comparable numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition(".post")[0]))


def require_option(traits: Traits, option: Option) -> tuple[str, ...]:
    """Builder flags of an option, or ``UsageError`` where the flavour has none."""
    if option not in traits.options:
        raise UsageError(
            f"{traits.label} has no --{option}: {traits.refused[option]}",
            f"build without --{option}, or with another flavour",
        )
    return traits.options[option]


def _import(row: Traits) -> ModuleType:
    reasons = []
    for name in row.modules:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                reasons.append(f"{name} cannot be imported: {error}")
        except Exception as error:  # the binding's own, whatever it is
            raise _broken(name, str(error) or type(error).__name__, row) from error
    raise BackendNotAvailable(
        reasons[0] if reasons else f"{row.modules[0]} is not installed", row.install
    )


def _broken(name: str, text: str, row: Traits) -> BackendNotAvailable:
    first = text.splitlines()[0]
    wanted = re.search(r"compiled for Python (\d+\.\d+)", text)
    if wanted:
        return BackendNotAvailable(
            f"{name} is built for Python {wanted[1]}: {first}",
            f"run vgg-deploy with Python {wanted[1]}, or install the {name} of this Python",
        )
    return BackendNotAvailable(f"{name} cannot be imported: {first}", row.install)
