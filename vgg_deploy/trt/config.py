"""The builder's configuration: flags by name, profiles, limits, what to build for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact
from vgg_deploy.cuda import TF32_VARIABLE, tf32_is_off
from vgg_deploy.errors import UsageError
from vgg_deploy.trt.failure import given
from vgg_deploy.trt.flavour import Option, Traits
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place


def make_config(
    builder: Any, onnx_path: Path, onnx: Artifact, options: BuildOptions, place: Place
) -> Any:
    """The builder's configuration: flags by name, profiles, limits, what to build for.

    Raises ``RuntimeError`` for a profile or GPU that the builder refuses; the reason is in its log.
    """
    module, traits = place.library.module, place.library.traits
    flag = module.BuilderFlag
    config = given(builder.create_builder_config(), "configuration")
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # layers with their types
    if options.precision != "tf32":
        config.clear_flag(flag.TF32)  # on by default everywhere
    for name in _flags(onnx_path, options, traits):
        config.set_flag(getattr(flag, name))
    for name in traits.preview_features:
        config.set_preview_feature(getattr(module.PreviewFeature, name), True)
    if options.hardware_compatible:
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.workspace is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if traits.compute_capabilities:
        wanted = capability_of(options, place)
        number = getattr(module.ComputeCapability, f"SM{wanted.replace('.', '')}")
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(number, 0):
            raise RuntimeError(f"the builder does not take compute capability {wanted}")
    _add_profiles(builder, config, onnx, options)
    return config


def wanted_options(options: BuildOptions) -> list[Option]:
    """Options that were asked for and that not every flavour has."""
    asked: dict[Option, bool] = {
        "hardware-compatible": options.hardware_compatible,
        "version-compatible": options.version_compatible,
        "strip-weights": options.strip_weights,
    }
    return [option for option, wanted in asked.items() if wanted]


def capability_of(options: BuildOptions, place: Place) -> str:
    """What to build for, or an error where the flavour or its compiler cannot."""
    traits, here = place.library.traits, place.gpu
    wanted = options.compute_capability or (here.compute_capability if here else "")
    if not traits.compute_capabilities:
        if here and wanted != here.compute_capability:
            raise UsageError(
                f"{traits.label} builds for the GPU it runs on, which has compute capability "
                f"{here.compute_capability}, not {wanted}",
                f"build on a GPU of {wanted}, or use --flavour tensorrt-rtx",
            )
        _require_possible(traits, wanted, options)
        return "8.0+" if options.hardware_compatible else wanted
    if wanted not in traits.compute_capabilities:
        raise UsageError(
            f"{traits.label} does not build for compute capability {wanted}",
            f"it builds for {', '.join(traits.compute_capabilities)}; "
            "other GPUs run --flavour tensorrt",
        )
    _require_possible(traits, wanted, options)
    return wanted


def _require_possible(traits: Traits, capability: str, options: BuildOptions) -> None:
    if reason := traits.impossible.get((capability, options.precision)):
        raise UsageError(
            f"{traits.label} cannot build {options.precision} for {capability}: {reason}",
            "choose another precision for this GPU",
        )
    if options.precision == "tf32" and tf32_is_off():
        raise UsageError(
            f"{TF32_VARIABLE}=0 switches TF32 off: the engine would be fp32's",
            f"unset {TF32_VARIABLE}, or build --precision fp32",
        )


def _add_profiles(builder: Any, config: Any, onnx: Artifact, options: BuildOptions) -> None:
    inner = onnx.input.shape[1:]
    for profile in options.profiles:
        shapes = given(builder.create_optimization_profile(), "profile")
        shapes.set_shape(onnx.input.name, *((size, *inner) for size in profile.sizes))
        if config.add_optimization_profile(shapes) < 0:
            raise RuntimeError(f"the builder does not take profile {profile}")


def _flags(onnx_path: Path, options: BuildOptions, traits: Traits) -> list[str]:
    """Builder flags by name: those of the options, and of the graph's types where needed."""
    names = [name for option in wanted_options(options) for name in traits.options[option]]
    return names if traits.typed_by_graph else names + _flags_of_types(onnx_path, traits)


def _flags_of_types(onnx_path: Path, traits: Traits) -> list[str]:
    """Builder flags that allow the types the graph itself uses (before strong typing)."""
    import onnx

    graph = onnx.load(onnx_path, load_external_data=False).graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        kinds |= {a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"}
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            kinds.add(onnx.TensorProto.INT8)
    names = {onnx.TensorProto.DataType.Name(kind) for kind in kinds}
    return [flag for name, flag in traits.type_flags.items() if name in names]
