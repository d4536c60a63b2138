"""The commands that make a bundle's files again from its checkpoint: ``export`` and ``build``."""

from __future__ import annotations

from collections.abc import Iterable

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.command_line import each, line
from vgg_deploy.spec import NAMED_DATA

EXPORTED = ("torchscript", "program", "aoti", "onnx")  # what export --format takes
_FP32_ONLY = ["--precision", "fp32", "--embedded"]  # the precision goes without saying
_CALIBRATION_IMAGES = "128"  # the default of export
_DEFAULT_BATCHES = ((1, 8, 64),)  # of build
_ENGINE_OPTIONS = {  # of build: option by its name in made_by
    "workspace": "--workspace",
    "optimization-level": "--optimization-level",
}
_ENGINE_FLAGS = ("hardware-compatible", "version-compatible", "strip-weights")


def export_commands(bundle: Bundle, name: str) -> list[str]:
    """One line for the plain files, one more for each other calibration, then the embedded ones."""
    artifacts, dataset = bundle.artifacts, bundle.card.dataset
    formats = dict.fromkeys(a.format for a in artifacts if a.format in EXPORTED)
    plain = [a for a in artifacts if a.format == "onnx" and a.precision != "fp32"]
    options = [(one.precision, _calibration(one, dataset)) for one in plain]
    words, *others = _by_options(options) or [[]]
    words = each("--format", formats) + words
    lines = [line("export", name, *words)] if words else []
    lines += [line("export", name, "--format", "onnx", *other) for other in others]
    return lines + _embedded(bundle, name)


def _embedded(bundle: Bundle, name: str) -> list[str]:
    """A line for each kind; it makes the plain files, too, and so repeats their calibration."""
    options = []
    for one in (a for a in bundle.artifacts if a.format == "embedded"):
        plain = bundle.find("onnx", one.precision)
        calibration = _calibration(plain, bundle.card.dataset) if plain else ()
        shape = (
            word
            for key, usual in (("resize", "portable"), ("topk", "0"))
            if (value := one.made_by.get(key, usual)) != usual
            for word in (f"--{key}", value)
        )
        options.append((one.precision, (*calibration, "--embedded", *shape)))
    return [
        line("export", name, "--format", "onnx", *(words[2:] if words[:3] == _FP32_ONLY else words))
        for words in _by_options(options)
    ]


def _by_options(files: Iterable[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """The words for all precisions of equal options, in the order in which they came."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for precision, options in files:
        groups.setdefault(options, []).append(precision)
    return [[*each("--precision", precisions), *options] for options, precisions in groups.items()]


def _calibration(one: Artifact, dataset: str | None) -> tuple[str, ...]:
    """What a file's ranges were measured on, where it is not what export would take by itself."""
    words: list[str] = []
    data, images = (one.made_by.get(f"calibration_{key}") for key in ("wanted", "images"))
    if data and (data != dataset or dataset not in NAMED_DATA):
        words += ["--calibration-data", data]
    if images and images != _CALIBRATION_IMAGES:
        words += ["--calibration-images", images]
    return tuple(words)


def build_commands(bundle: Bundle, name: str) -> list[str]:
    """A line for each way that engines were built in."""
    ways: dict[tuple[str, ...], list[str]] = {}
    for engine in bundle.artifacts:
        if engine.target is not None:
            ways.setdefault(_way(engine), []).append(engine.precision)
    return [
        line("build", name, *way, *each("--precision", dict.fromkeys(precisions)))
        for way, precisions in ways.items()
    ]


def _way(engine: Artifact) -> tuple[str, ...]:
    target, made_by = engine.target, engine.made_by
    if target is None:
        return ()
    words = ["--flavour", target.flavour.replace("_", "-")]
    if target.flavour == "tensorrt_rtx":  # it may have been built for a GPU that was not there
        words += ["--compute-capability", target.compute_capability]
    if target.batches and target.batches != _DEFAULT_BATCHES:
        words += each("--batch", (":".join(map(str, sizes)) for sizes in target.batches))
    for key, option in _ENGINE_OPTIONS.items():
        if made_by.get(key, "default") != "default":
            words += [option, made_by[key]]
    words += [f"--{flag}" for flag in _ENGINE_FLAGS if made_by.get(flag) == "yes"]
    return tuple(words)
