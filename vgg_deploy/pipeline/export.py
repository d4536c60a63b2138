"""Export a bundle to several formats, each kept when it is still valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, UsageError, VggDeployError, unknown_choice
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.export.described import require_described
from vgg_deploy.export.embedded import export_embedded, plain_file
from vgg_deploy.export.registry import EXPORT_FORMATS
from vgg_deploy.export.registry import export as export_one
from vgg_deploy.pipeline.golden import make_golden
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.precision.convert import ONNX_PRECISIONS, completed, convert, images_to_run
from vgg_deploy.precision.options import CalibrationOptions


@dataclass(kw_only=True)
class Exported:
    """What came of an export; names of formats and precisions with the reason."""

    bundle: Bundle
    made: list[Artifact] = field(default_factory=list)  # or kept
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)  # made from what was replaced
    error: VggDeployError | None = None  # the first

    @property
    def dropped(self) -> list[str]:
        """Files that were made from one that was replaced, and were not made again."""
        there = {str(a.path) for a in self.bundle.artifacts}
        return [name for name in dict.fromkeys(self.gone) if name not in there]

    def took(self, bundle: Bundle, artifact: Artifact, reused: bool, watch: Watcher) -> None:
        """Note an artifact that was made or kept, and say so."""
        there = {a.path for a in bundle.artifacts}
        gone = [str(a.path) for a in self.bundle.artifacts if a.path not in there]
        self.bundle = bundle
        self.made.append(artifact)
        self.gone += gone
        _told(watch, artifact, reused, gone)

    def failed_at(self, name: str, error: VggDeployError, watch: Watcher) -> None:
        """Note what could not be made, and say so."""
        self.failed[name] = error.cause
        self.error = self.error or error
        watch.say(f"export: {name} failed: {error.cause}")


def export_bundle(
    bundle: Bundle,
    formats: Sequence[str] = (),
    watch: Watcher | None = None,
    *,
    precisions: Sequence[str] = (),
    calibration: CalibrationOptions | None = None,
    embedded: EmbeddedOptions | None = None,
) -> tuple[Bundle, list[Artifact], dict[str, str]]:
    """``export_files``; a precision that failed is an error when all others are made.

    Returns the bundle, its artifacts of those formats, and why others were skipped.
    """
    done = export_files(
        bundle, formats, watch, precisions=precisions, calibration=calibration, embedded=embedded
    )
    if done.error:
        raise done.error
    return done.bundle, done.made, done.skipped


def export_files(
    bundle: Bundle,
    formats: Sequence[str] = (),
    watch: Watcher | None = None,
    *,
    precisions: Sequence[str] = (),
    calibration: CalibrationOptions | None = None,
    embedded: EmbeddedOptions | None = None,
) -> Exported:
    """Make the artifacts of ``formats`` (all when empty), ONNX in ``precisions``, golden vectors.

    With ``embedded`` also the embedded file of each precision; what does not fit is told first.

    A format that was asked for by name and cannot be made here is an error; among "all" it is
    skipped. Precisions belong to ONNX: given without a format they mean that one. One that cannot
    be made does not stop the others.
    """
    watch = watch or Silent()
    formats = formats or (["onnx"] if precisions else [])
    _check_precisions(formats, precisions)
    _check_formats(formats)
    if embedded is not None:
        _check_embedded(bundle, formats, embedded)
    require_described(bundle)  # a file that is kept tells nothing of what is calibrated now
    done = Exported(bundle=bundle)
    wanted = [cast("Precision", name) for name in dict.fromkeys(precisions) if name != "fp32"]
    asked = calibration or CalibrationOptions()
    before = {name: completed(bundle, name, asked) for name in wanted}
    _plain(done, formats, watch)
    for name in wanted:
        # A new fp32 file takes with it what was made from the old one, not how that was made.
        options = asked if done.bundle.find("onnx", name) else before[name]
        try:
            done.took(*_converted(done.bundle, name, options, watch), watch)
        except VggDeployError as error:
            done.failed_at(name, error, watch)
    done.bundle = make_golden(done.bundle, watch)
    if embedded is not None:
        left = [name for name in precisions or ("fp32",) if name not in done.failed]
        _embedded(done, embedded, left, watch)
    return done


def _plain(done: Exported, formats: Sequence[str], watch: Watcher) -> None:
    """The fp32 file of each format."""
    for name in dict.fromkeys(formats or EXPORT_FORMATS):
        what = f"export {name}, {done.bundle.card.spec}"
        was_made = begin_usual(watch, f"export {name}", what)
        try:
            bundle, artifact, reused = export_one(done.bundle, cast("Format", name))
        except BackendNotAvailable as error:
            if formats:
                raise
            done.skipped[name] = f"{error.cause}; {error.remedy}"
            watch.say(f"skipped: {name}: {done.skipped[name]}")
            continue
        if not reused:
            was_made()
        done.took(bundle, artifact, reused, watch)


def embed_preprocessing(
    bundle: Bundle,
    options: EmbeddedOptions,
    watch: Watcher | None = None,
    *,
    precision: Precision = "fp32",
) -> tuple[Bundle, Artifact]:
    """Make the embedded file of the bundle's plain ONNX file; it is kept when still valid."""
    watch = watch or Silent()
    require_described(bundle)
    was_made = begin_usual(
        watch, "export embedded", f"export embedded {precision}, {bundle.card.spec}"
    )
    bundle, artifact, reused = export_embedded(bundle, precision=precision, options=options)
    if not reused:
        was_made()
    _told(watch, artifact, reused)
    return bundle, artifact


def _embedded(
    done: Exported, options: EmbeddedOptions, precisions: Sequence[str], watch: Watcher
) -> None:
    for name in dict.fromkeys(precisions):
        precision = cast("Precision", name)
        try:
            done.bundle, artifact = embed_preprocessing(
                done.bundle, options, watch, precision=precision
            )
        except VggDeployError as error:
            done.failed_at(f"embedded {name}", error, watch)
        else:
            done.made.append(artifact)


def _converted(
    bundle: Bundle,
    precision: Precision,
    calibration: CalibrationOptions,
    watch: Watcher,
) -> tuple[Bundle, Artifact, bool]:
    what = f"convert to {precision}"
    options = completed(bundle, precision, calibration)
    images = images_to_run(precision, options)
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


def _told(watch: Watcher, artifact: Artifact, reused: bool, dropped: Sequence[str] = ()) -> None:
    how = "reused, still valid" if reused else f"made, {artifact.size_bytes / 1e6:,.1f} MB"
    notes = [
        f"{name.replace('_', ' ')} {artifact.made_by[name]}"
        for name in _SAID
        if name in artifact.made_by
    ]
    watch.say(f"export: {artifact.path} {'; '.join([how, *notes])}")
    if dropped:
        watch.say(f"dropped, made from the old {artifact.path}: {', '.join(dropped)}")
