"""What a build is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy.artifact import Flavour, Precision
from vgg_deploy.errors import UsageError
from vgg_deploy.trt.profile import DEFAULT, Profile


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """One engine. What its flavour cannot do is refused when the library is known."""

    flavour: Flavour = "tensorrt"
    precision: Precision = "fp32"
    profiles: tuple[Profile, ...] = DEFAULT
    compute_capability: str | None = None  # None: the GPU that is here
    workspace: int | None = None  # MiB of scratch memory the kernels may use; None: all
    optimization_level: int | None = None  # 0 fast build .. 5 fast engine; None: TensorRT's 3
    hardware_compatible: bool = False
    version_compatible: bool = False
    strip_weights: bool = False

    def __post_init__(self) -> None:
        if self.workspace is not None and not 1 <= self.workspace <= 1 << 20:
            raise UsageError(
                f"--workspace {self.workspace} is out of range", "give MiB, for example 2048"
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise UsageError(
                f"--optimization-level {self.optimization_level} is out of range",
                "use 0 (fast build) to 5 (fast engine)",
            )
        if not self.profiles:
            raise UsageError("no batch profile", "give one, such as --batch 1:8:64")
