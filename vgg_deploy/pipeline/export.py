"""Export a bundle to several formats, each kept when it is still valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, UsageError, unknown_choice
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.export.embedded import export_embedded, plain_file
from vgg_deploy.export.registry import EXPORT_FORMATS
from vgg_deploy.export.registry import export as export_one
from vgg_deploy.pipeline.golden import make_golden
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.precision.convert import ONNX_PRECISIONS, convert, images_to_run
from vgg_deploy.precision.options import CalibrationOptions


def export_bundle(
    bundle: Bundle,
    formats: Sequence[str] = (),
    watch: Watcher | None = None,
    *,
    precisions: Sequence[str] = (),
    calibration: CalibrationOptions | None = None,
    embedded: EmbeddedOptions | None = None,
) -> tuple[Bundle, list[Artifact], dict[str, str]]:
    """Make the artifacts of ``formats`` (all when empty), ONNX in ``precisions``, golden vectors.

    With ``embedded`` also the embedded file of each precision; what does not fit is told first.

    Returns the bundle, its artifacts of those formats, and why others were skipped. A format that
    was asked for by name and cannot be made here is an error; among "all" it is skipped. Precisions
    belong to ONNX: given without a format they mean that one.
    """
    watch = watch or Silent()
    formats = formats or (["onnx"] if precisions else [])
    _check_precisions(formats, precisions)
    _check_formats(formats)
    if embedded is not None:
        _check_embedded(bundle, formats, embedded)
    made: list[Artifact] = []
    skipped: dict[str, str] = {}
    for name in dict.fromkeys(formats or EXPORT_FORMATS):
        was_made = begin_usual(watch, f"export {name}", f"export {name}, {bundle.card.spec}")
        try:
            bundle, artifact, reused = export_one(bundle, cast("Format", name))
        except BackendNotAvailable as error:
            if formats:
                raise
            skipped[name] = f"{error.cause}; {error.remedy}"
            watch.say(f"skipped: {name}: {skipped[name]}")
            continue
        if not reused:
            was_made()
        made.append(artifact)
        _told(watch, artifact, reused)
    for name in dict.fromkeys(precisions):
        if name == "fp32":
            continue  # the plain file, made above
        precision = cast("Precision", name)
        bundle, artifact, reused = _converted(bundle, precision, calibration, watch)
        made.append(artifact)
        _told(watch, artifact, reused)
    bundle = make_golden(bundle, watch)
    if embedded is not None:
        bundle, more = _embedded(bundle, embedded, precisions, watch)
        made += more
    return bundle, made, skipped


def embed_preprocessing(
    bundle: Bundle,
    options: EmbeddedOptions,
    watch: Watcher | None = None,
    *,
    precision: Precision = "fp32",
) -> tuple[Bundle, Artifact]:
    """Make the embedded file of the bundle's plain ONNX file; it is kept when still valid."""
    watch = watch or Silent()
    was_made = begin_usual(
        watch, "export embedded", f"export embedded {precision}, {bundle.card.spec}"
    )
    bundle, artifact, reused = export_embedded(bundle, precision=precision, options=options)
    if not reused:
        was_made()
    _told(watch, artifact, reused)
    return bundle, artifact


def _embedded(
    bundle: Bundle, options: EmbeddedOptions, precisions: Sequence[str], watch: Watcher
) -> tuple[Bundle, list[Artifact]]:
    made = []
    for name in dict.fromkeys(precisions or ("fp32",)):
        precision = cast("Precision", name)
        bundle, artifact = embed_preprocessing(bundle, options, watch, precision=precision)
        made.append(artifact)
    return bundle, made


def _converted(
    bundle: Bundle,
    precision: Precision,
    calibration: CalibrationOptions | None,
    watch: Watcher,
) -> tuple[Bundle, Artifact, bool]:
    what = f"convert to {precision}"
    images = images_to_run(precision, calibration)
    if images:
        watch.begin(what, images, "images")
        return convert(bundle, precision, calibration, watch.advance)
    was_made = begin_usual(watch, what, f"{what}, {bundle.card.spec}")
    bundle, artifact, reused = convert(bundle, precision, calibration, watch.advance)
    if not reused:
        was_made()
    return bundle, artifact, reused


def _check_formats(formats: Sequence[str]) -> None:
    for name in formats:
        if name not in EXPORT_FORMATS:
            raise unknown_choice("format", name, EXPORT_FORMATS)


def _check_embedded(bundle: Bundle, formats: Sequence[str], options: EmbeddedOptions) -> None:
    options.require_fit(bundle.card)
    if formats and "onnx" not in formats:  # none is made, so one has to be there
        plain_file(bundle, "fp32")


def _check_precisions(formats: Sequence[str], precisions: Sequence[str]) -> None:
    for name in precisions:
        if name not in ONNX_PRECISIONS:
            raise unknown_choice("precision", name, ONNX_PRECISIONS)
    if precisions and "onnx" not in formats:
        raise UsageError(
            f"--precision {precisions[0]} belongs to ONNX files, not to {', '.join(formats)}",
            "add --format onnx, or leave out --format",
        )


_SAID = (
    "calibration_data",
    "largest_activation",
    "range_measured_on",
    "calibration",
    "calibration_divergence",
    "needs",
)


def _told(watch: Watcher, artifact: Artifact, reused: bool) -> None:
    how = "reused, still valid" if reused else f"made, {artifact.size_bytes / 1e6:,.1f} MB"
    notes = [
        f"{name.replace('_', ' ')} {artifact.made_by[name]}"
        for name in _SAID
        if name in artifact.made_by
    ]
    watch.say(f"export: {artifact.path} {'; '.join([how, *notes])}")
