"""torch on a GPU: eager, ``torch.compile``, TorchScript, AOTInductor, each set up to be fast.

As their own users would: channels-last (but for a frozen script), cuDNN searching its algorithms,
``max-autotune`` and CUDA graphs, half precision by ``.half()`` of the whole network with a float32
input and output, as the ONNX files have. TF32 is a precision of its own and off in fp32. Code is
compiled for the batch that is placed, so that no variant pays for dynamic shapes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.backends.base import Missing, Session
from vgg_deploy.backends.device import DeviceSession
from vgg_deploy.backends.networks import Network, load_script
from vgg_deploy.backends.pytorch import exact_float32, missing_compiler
from vgg_deploy.backends.session import TORCH_REMEDY, importable, kept_from_tf32, opened
from vgg_deploy.backends.torch_network import Card, Cuda, Graph, TorchNetwork
from vgg_deploy.compiler import for_inductor
from vgg_deploy.inductor import quiet_compiler

if TYPE_CHECKING:
    import torch
    from torch import nn

Way = Literal["eager", "compile", "script", "aoti"]
_GRAPH: Mapping[Way, Graph] = {"compile": "inside", "aoti": "captured"}
_COMPILED: tuple[Way, ...] = ("compile", "aoti")


@dataclass(frozen=True)
class TorchGpu:
    """One way to run a checkpoint in one precision.

    ``variant_of`` names the row that differs only in precision: a plan leaves a variant out where
    it would say no more than that row.
    """

    name: str = "torch-cuda"
    way: Way = "eager"
    precision: Precision = "fp32"
    variant_of: str | None = None
    cuda_graph: bool = True  # of the compiled ways; the others have none
    formats: frozenset[Format] = field(default=frozenset({"checkpoint"}))
    device: Literal["cuda"] = "cuda"
    card: Callable[[], Card] = Cuda

    def probe(self) -> Missing | None:
        """Needs torch built for CUDA, a driver and a GPU; compiled ways a C++ compiler, too.

        AOTInductor's C++ also includes CUDA's headers.
        """
        if missing := importable("torch", TORCH_REMEDY):
            return missing
        if self.way in _COMPILED and (missing := missing_compiler()):
            return missing
        if self.card is not Cuda:
            return None
        return no_gpu() or (no_cuda_toolkit() if self.way == "aoti" else None)

    def refuses(self, _artifact: Artifact, /) -> Missing | None:
        """TF32 where the GPU has none, or is kept from it: that would be fp32."""
        if self.precision != "tf32":
            return None
        if missing := kept_from_tf32():
            return missing
        if self.card is Cuda and no_gpu() is None and not has_tf32():
            base = self.variant_of or "fp32"
            return Missing("this GPU has no TF32, which came with 8.0", f"use {base}")
        return None

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """The network on the GPU; compiling waits for the first batch."""

        def load(path: Path) -> TorchNetwork:
            exact_float32()
            card = self.card()
            return TorchNetwork(
                name=self.name,
                network=self._network(path, card),
                card=card,
                tf32=self.precision == "tf32",
                graph=_GRAPH.get(self.way, "off") if self.cuda_graph else "off",
                # frozen into its graph, a script's weights lie as they were traced
                channels_last=self.way != "script",
                specialize=self._specialize(),
            )

        return opened(self, artifact, root, load, DeviceSession)

    def _specialize(self) -> Callable[[Network, torch.Tensor], Network] | None:
        if self.way == "compile":
            return partial(_compiled, cuda_graph=self.cuda_graph)
        return _packaged if self.way == "aoti" else None

    def _network(self, path: Path, card: Card) -> Network:
        if self.way == "script":
            return load_script(path, card.device)
        return load_checkpoint(path, self.precision, card.device)


def no_gpu() -> Missing | None:
    """Why torch has no GPU here, or None."""
    import torch

    if torch.version.cuda is None:
        return Missing("this build of torch has no CUDA", "pip install torch from PyPI")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "CUDA initialization: Found no NVIDIA driver"
        if torch.cuda.is_available():
            return None
    return Missing(
        "torch sees no NVIDIA GPU", "needs a GPU and a driver; nvidia-smi and CUDA_VISIBLE_DEVICES"
    )


def has_tf32() -> bool:
    """Whether the GPU in use has it; torch's switches for it do nothing on older ones."""
    import torch

    return torch.cuda.get_device_capability() >= (8, 0)


def no_cuda_toolkit() -> Missing | None:
    """Why AOTInductor could not compile for a GPU, or None: torch itself brings no headers."""
    remedy = "install NVIDIA's CUDA toolkit (nvcc and its headers) and set CUDA_HOME to its folder"
    with quiet_compiler():
        if missing := importable("torch.utils.cpp_extension", remedy):
            return missing
        from torch.utils import cpp_extension
    if cpp_extension.CUDA_HOME:
        return None
    return Missing("torch finds no CUDA toolkit, which AOTInductor compiles with", remedy)


def load_checkpoint(path: Path, precision: Precision, device: str) -> nn.Module:
    """The network of a checkpoint, channels-last, in a precision; float32 in and out."""
    import torch
    from torch import nn

    from vgg_deploy.model.checkpoint import load_model

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)

    class InPrecision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model = load_model(path).requires_grad_(False)
            self.network = model.to(device, dtype).to(memory_format=torch.channels_last)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(images.to(dtype))
            return logits.float()

    return InPrecision().eval()


def _compiled(network: Network, _example: torch.Tensor, *, cuda_graph: bool = True) -> Network:
    """``max-autotune``: Triton and cuDNN compete per layer; runs are CUDA graphs if wanted."""
    import torch
    import torch._inductor

    options = torch._inductor.list_mode_options("max-autotune") | _no_tables() | for_inductor()
    options["triton.cudagraphs"] = cuda_graph
    made: Network = torch.compile(network, options=options, fullgraph=True, dynamic=False)
    return made


def _no_tables() -> dict[str, object]:
    """Options that keep the tables of ``max-autotune`` off stderr, where the progress line is."""
    from torch._inductor import config

    quiet = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
    return {name: value for name, value in quiet.items() if hasattr(config, name)}


def _packaged(network: Network, example: torch.Tensor) -> Network:
    """Export for this batch, compile ahead of time, load the package again."""
    import tempfile
    from typing import cast

    import torch
    import torch._inductor

    program = torch.export.export(cast("nn.Module", network), (example,))
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(Path(folder) / "model.pt2"),
            inductor_configs={"max_autotune": example.is_cuda, **_no_tables(), **for_inductor()},
        )
        # The other kind of runner asks events of its own while it runs, which no capture allows.
        loaded: Network = torch._inductor.aoti_load_package(
            package, run_single_threaded=example.is_cuda
        )
    return loaded


def _rows(name: str, way: Way, precisions: tuple[Precision, ...]) -> tuple[TorchGpu, ...]:
    base = TorchGpu(name=name, way=way)
    variants = (
        TorchGpu(name=f"{name}-{precision}", way=way, precision=precision, variant_of=name)
        for precision in precisions
    )
    return (base, *variants)


TORCH_GPU: tuple[TorchGpu, ...] = (
    *_rows("torch-cuda", "eager", ("tf32", "fp16", "bf16")),
    *_rows("torch-compile-cuda", "compile", ("tf32", "fp16", "bf16")),
    TorchGpu(name="torchscript-cuda", way="script", formats=frozenset({"torchscript"})),
    *_rows("aoti-cuda", "aoti", ("fp16",)),
)
