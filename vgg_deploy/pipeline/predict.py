"""Classify image files with a deployed artifact; needs torch only for torch's own backends."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.backends import BACKENDS, get_backend
from vgg_deploy.backends.base import Backend
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.classes import SUFFIXES, images_below
from vgg_deploy.data.images import read_image, require_image
from vgg_deploy.data.preprocess import preprocess, require_sides
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError, os_errors
from vgg_deploy.files import shown, word
from vgg_deploy.pipeline.cells import how_for, is_for, main_format, refusal
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.pipeline.whole import require_card
from vgg_deploy.spec import ModelCard
from vgg_deploy.verify.compare import softmax

# Deployed runtimes first: they start fast and need no torch.
_PREFERRED = ("trt", "trt-rtx", "ort-cpu", "openvino", "torchscript", "aoti", "torch")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Most probable classes of one image with their probabilities, best first."""

    image: str
    artifact: str
    backend: str
    classes: tuple[tuple[str, float], ...]
    indices: tuple[int, ...]  # of these classes in the model's labels
    logits: tuple[float, ...]  # of these classes, as the file gives them


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """An image that could not be classified, and why."""

    image: str
    error: str
    remedy: str


def images_at(paths: Iterable[Path]) -> list[Path]:
    """The paths of files as they are, those of folders with the images below, sorted by name."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        with os_errors(f"read {shown(path)}"):
            inside, _ = images_below(path)
        if not inside:
            raise RefusedInput(
                f"folder {shown(path)} holds no images",
                f"give files, or a folder with some; looked for are {' '.join(SUFFIXES)}",
            )
        found += inside
    return found


def predict_images(
    bundle: Bundle,
    images: Sequence[Path],
    *,
    backend: str | None = None,
    precision: Precision | None = None,
    top: int = 5,
    watch: Watcher | None = None,
) -> list[Prediction]:
    """Classify ``images``, one in memory at a time; all are opened before the first is run.

    Without ``precision`` fp32 is taken where there is a choice.

    Raises ``RefusedInput`` for a file that is no image and for an artifact that gives NaN or
    infinity, ``BackendNotAvailable`` when the backend cannot run here, ``DigestMismatch`` when the
    artifact or the manifest was changed.
    """
    chosen = _prepared(bundle, backend, precision, top)
    for path in images:
        require_image(path)
    with closing(_each(bundle, chosen, images, top, watch or Silent())) as found:
        return [_required(one) for one in found]


def predict_every(
    bundle: Bundle,
    images: Sequence[Path],
    *,
    backend: str | None = None,
    precision: Precision | None = None,
    top: int = 5,
    watch: Watcher | None = None,
) -> list[Prediction | Unreadable]:
    """``predict_images``, but an image that cannot be read costs no other one its result."""
    chosen = _prepared(bundle, backend, precision, top)
    return list(_each(bundle, chosen, images, top, watch or Silent()))


def _required(one: Prediction | Unreadable) -> Prediction:
    if isinstance(one, Unreadable):
        raise RefusedInput(one.error, one.remedy)
    return one


def _prepared(
    bundle: Bundle, backend: str | None, precision: Precision | None, top: int
) -> tuple[Backend, Artifact]:
    if top < 1:
        raise UsageError(f"--top {top} is below 1", "show at least one class")
    chosen, artifact = _choose(bundle, backend, precision)
    bundle.check([artifact])
    require_card(bundle, artifact)
    return chosen, artifact


def _each(
    bundle: Bundle,
    chosen: tuple[Backend, Artifact],
    images: Sequence[Path],
    top: int,
    watch: Watcher,
) -> Generator[Prediction | Unreadable]:
    """What each image is, in their order."""
    backend, artifact = chosen
    labels = bundle.card.labels
    with backend.open(artifact, bundle.root) as session:
        watch.begin("predict", len(images), "images")
        for path in images:
            try:
                given = _input(path, bundle.card, artifact)
            except RefusedInput as error:
                yield Unreadable(image=str(path), error=error.cause, remedy=error.remedy)
                watch.advance()
                continue
            logits = session(given)
            if not np.isfinite(logits).all():
                raise _not_finite(artifact, path)
            probabilities = softmax(logits)[0]
            best = probabilities.argsort()[::-1][:top]
            yield Prediction(
                image=str(path),
                artifact=str(artifact.path),
                backend=backend.name,
                classes=tuple((labels[i], float(probabilities[i])) for i in best),
                indices=tuple(map(int, best)),
                logits=tuple(float(logits[0, i]) for i in best),
            )
            watch.advance()


def _input(path: Path, card: ModelCard, artifact: Artifact) -> NDArray[np.generic]:
    """What the artifact takes: pixels where it preprocesses itself."""
    image = read_image(path, card.spec.channels)
    if artifact.format != "embedded":
        return preprocess(image, card.preprocessing)  # which looks at the sides itself
    require_sides(image.shape[1], image.shape[2], card.preprocessing)
    return image


def _not_finite(artifact: Artifact, image: Path) -> RefusedInput:
    wide = artifact.precision in ("fp32", "tf32", "bf16")
    return RefusedInput(
        f"{artifact.path} gives NaN or infinity for {image}",
        "its weights are of no use: train or load others" if wide else "use the fp32 or bf16 file",
    )


def _choose(
    bundle: Bundle, name: str | None, precision: Precision | None
) -> tuple[Backend, Artifact]:
    """The backend asked for, or the first preferred one that has an artifact and its library."""
    of = f" in {precision}" if precision else ""
    if name is not None:
        backend = get_backend(name)
        if missing := backend.probe():
            raise BackendNotAvailable(
                f"backend {name} cannot run: {missing.reason}", missing.remedy
            )
        known = _known(bundle, backend, precision)
        # an engine for another GPU only where there is no other: opening it says what differs
        artifact = _shipped(_fitting(bundle, backend, known) or known)
        if artifact is None:
            wanted = main_format(backend.formats)
            raise RefusedInput(
                f"{bundle.root} holds no {wanted} artifact{of} for {name}",
                _how(bundle, backend, precision),
            )
        return backend, artifact
    for candidate in (BACKENDS[n] for n in _PREFERRED):
        known = _known(bundle, candidate, precision)
        if known and candidate.probe() is None:
            artifact = _shipped(_fitting(bundle, candidate, known))
            if artifact is not None:
                return candidate, artifact
    if precision and not any(a.precision == precision for a in bundle.artifacts):
        raise RefusedInput(
            f"{bundle.root} holds nothing{of}", _how(bundle, BACKENDS["ort-cpu"], precision)
        )
    raise BackendNotAvailable(
        f"no backend can open this bundle{of} here", "see what is missing: vgg-deploy doctor"
    )


def _how(bundle: Bundle, backend: Backend, precision: Precision | None) -> str:
    """The command that makes what the backend opens, in the precision that was asked for."""
    wanted = main_format(backend.formats)
    how = how_for(bundle, backend, wanted)
    if precision in (None, "fp32"):
        return how
    if wanted not in ("onnx", "engine"):
        return f"{backend.name} opens fp32 files only: leave out --precision"
    if precision == "tf32" and wanted == "onnx":
        build = f"vgg-deploy build {word(bundle.root)} --precision tf32"
        return f"no ONNX file is in tf32: leave out --precision, or make an engine: {build}"
    return f"{how} --precision {precision}"


def _known(bundle: Bundle, backend: Backend, precision: Precision | None) -> list[Artifact]:
    return [
        a
        for a in bundle.artifacts
        if a.format in backend.formats and is_for(backend, a) and precision in (None, a.precision)
    ]


def _fitting(bundle: Bundle, backend: Backend, known: Sequence[Artifact]) -> list[Artifact]:
    """Those that the backend opens here, for one image at a time."""
    return [a for a in known if refusal(bundle, backend, a) is None and _takes_one(a)]


def _takes_one(artifact: Artifact) -> bool:
    batches = artifact.target.batches if artifact.target else ()
    return not batches or any(sizes[0] == 1 for sizes in batches)


def _shipped(fit: Sequence[Artifact]) -> Artifact | None:
    """Fp32 before what it was made into; then what preprocesses itself and takes any size."""

    def rank(artifact: Artifact) -> tuple[bool, bool]:
        whole = artifact.format == "embedded" and isinstance(artifact.input.shape[1], str)
        return artifact.precision != "fp32", not whole

    return min(fit, key=rank, default=None)
