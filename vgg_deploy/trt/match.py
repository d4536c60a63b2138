"""Whether a plan may be opened here: what the manifest says against what this machine has.

A plan is native code for one TensorRT and one GPU, so this is asked before any of it is read.
"""

from __future__ import annotations

from pathlib import Path

from vgg_deploy.artifact import Artifact, Target
from vgg_deploy.cuda import Gpu
from vgg_deploy.errors import RefusedInput, StaleEngine
from vgg_deploy.files import word
from vgg_deploy.trt.flavour import Library, version_of

# Keys of an engine's ``made_by``; their options on the command line.
GPU, CUDA, DRIVER, ONNX = "gpu", "cuda", "driver", "onnx"
VERSION_COMPATIBLE = "version-compatible"
HARDWARE_COMPATIBLE = "hardware-compatible"
STRIP_WEIGHTS = "strip-weights"
WORKSPACE = "workspace"
LEVEL = "optimization-level"
YES, NO, DEFAULT = "yes", "no", "default"


def require_fit(artifact: Artifact, root: Path, library: Library, gpu: Gpu) -> None:
    """Raise ``StaleEngine`` with what differs and the command that builds the engine anew."""
    if differing := differences(artifact, library, gpu):
        raise StaleEngine(
            f"{root / artifact.path} was built for another place: {'; '.join(differing)}",
            f"build it here: {rebuild_command(artifact, root, here=True)}",
        )


def target_of(artifact: Artifact) -> Target:
    """What an engine was built for; an engine without it is not one of ours."""
    if artifact.target is None:
        raise RefusedInput(
            f"the manifest does not say what {artifact.path} was built for",
            "only engines that vgg-deploy build made are opened",
        )
    return artifact.target


def differences(artifact: Artifact, library: Library, gpu: Gpu) -> list[str]:
    """One text per thing that differs; empty when the plan fits."""
    target, made_by = target_of(artifact), artifact.made_by
    found = []
    if target.flavour != library.traits.flavour:
        return [f"flavour {target.flavour}, here {library.traits.flavour}"]
    if not _version_fits(target.version, library.version, made_by.get(VERSION_COMPATIBLE) == YES):
        found.append(f"{target.flavour} {target.version}, here {library.version}")
    if not _capability_fits(target.compute_capability, gpu.compute_capability):
        found.append(
            f"compute capability {target.compute_capability}, here {gpu.compute_capability}"
        )
    exact = not library.traits.compute_capabilities and "+" not in target.compute_capability
    if exact and made_by.get(GPU) != gpu.name:
        found.append(f"GPU {made_by.get(GPU)}, here {gpu.name}")
    if exact and _major(made_by.get(CUDA, "")) != _major(gpu.cuda):
        found.append(f"CUDA {made_by.get(CUDA)}, here {gpu.cuda}")
    return found


def rebuild_command(artifact: Artifact, root: Path, *, here: bool = False) -> str:
    """The command line that makes this engine again; ``here``: for the GPU of this machine."""
    target, made_by = target_of(artifact), artifact.made_by
    folder = "BUNDLE" if root == Path() else word(root)
    words = ["vgg-deploy build", folder, "--flavour", target.flavour.replace("_", "-")]
    words += ["--precision", artifact.precision]
    if target.flavour == "tensorrt_rtx" and not here:  # others build for the GPU they run on
        words += ["--compute-capability", target.compute_capability]
    for sizes in target.batches:
        words += ["--batch", ":".join(map(str, sizes))]
    for key in (WORKSPACE, LEVEL):
        if made_by.get(key, DEFAULT) != DEFAULT:
            words += [f"--{key}", made_by[key]]
    for key in (HARDWARE_COMPATIBLE, VERSION_COMPATIBLE, STRIP_WEIGHTS):
        if made_by.get(key) == YES:
            words.append(f"--{key}")
    return " ".join(words)


def settings_of(artifact: Artifact) -> str:
    """What shaped an engine: ``"profile 1:8:64, workspace 256 MiB"``; empty for other files."""
    batches = artifact.target.batches if artifact.target else ()
    sizes = [":".join(map(str, profile)) for profile in batches]
    words = [f"profile{'s' * (len(sizes) > 1)} {' and '.join(sizes)}"] if sizes else []
    made_by = artifact.made_by
    for key, unit in ((WORKSPACE, " MiB"), (LEVEL, "")):
        if made_by.get(key, DEFAULT) != DEFAULT:
            words.append(f"{key} {made_by[key]}{unit}")
    options = (HARDWARE_COMPATIBLE, VERSION_COMPATIBLE, STRIP_WEIGHTS)
    return ", ".join(words + [key for key in options if made_by.get(key) == YES])


def _version_fits(built: str, here: str, compatible: bool) -> bool:
    """The same version; with ``--version-compatible`` a later one as well."""
    if compatible:
        return version_of(here) >= version_of(built)
    return version_of(here) == version_of(built)


def _capability_fits(built: str, here: str) -> bool:
    if built.endswith("+"):
        return version_of(here) >= version_of(built)
    return here == built


def _major(version: str) -> str:
    return version.partition(".")[0]
