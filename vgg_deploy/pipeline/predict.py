"""Classify image files with a deployed artifact; needs torch only for torch's own backends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import BACKENDS, get_backend
from vgg_deploy.backends.base import Backend
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.images import read_image
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError
from vgg_deploy.pipeline.cells import how_for, is_for, main_format, refusal
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


def predict_images(
    bundle: Bundle, images: Sequence[Path], *, backend: str | None = None, top: int = 5
) -> list[Prediction]:
    """Classify ``images``; all are read before the first is run.

    Raises ``RefusedInput`` for a file that is no image, ``BackendNotAvailable`` when the backend
    cannot run here, ``DigestMismatch`` when the artifact was changed.
    """
    if top < 1:
        raise UsageError(f"--top {top} is below 1", "show at least one class")
    card = bundle.card
    chosen, artifact = _choose(bundle, backend)
    pixels = [read_image(path, card.spec.channels) for path in images]
    bundle.check([artifact])
    raw = artifact.format == "embedded"  # it preprocesses itself
    predictions = []
    with chosen.open(artifact, bundle.root) as session:
        for path, image in zip(images, pixels, strict=True):
            given = image if raw else preprocess(image, card.preprocessing)
            probabilities = softmax(session(given))[0]
            best = probabilities.argsort()[::-1][:top]
            predictions.append(
                Prediction(
                    image=str(path),
                    artifact=str(artifact.path),
                    backend=chosen.name,
                    classes=tuple((card.labels[i], float(probabilities[i])) for i in best),
                )
            )
    return predictions


def _choose(bundle: Bundle, name: str | None) -> tuple[Backend, Artifact]:
    """The backend asked for, or the first preferred one that has an artifact and its library."""
    if name is not None:
        backend = get_backend(name)
        if missing := backend.probe():
            raise BackendNotAvailable(
                f"backend {name} cannot run: {missing.reason}", missing.remedy
            )
        if (artifact := _artifact(bundle, backend)) is None:
            wanted = main_format(backend.formats)
            raise RefusedInput(
                f"{bundle.root} holds no {wanted} artifact for {name}",
                how_for(bundle, backend, wanted),
            )
        return backend, artifact
    for candidate in (BACKENDS[n] for n in _PREFERRED):
        artifact = _artifact(bundle, candidate)
        if artifact is not None and candidate.probe() is None:
            return candidate, artifact
    raise BackendNotAvailable(
        "no backend can open this bundle here", "see what is missing: vgg-deploy doctor"
    )


def _artifact(bundle: Bundle, backend: Backend) -> Artifact | None:
    """What one would ship: a file that preprocesses itself and takes any size, else the first."""
    known = [a for a in bundle.artifacts if a.format in backend.formats and is_for(backend, a)]
    # an engine for another GPU only where there is no other: opening it says what differs
    fit = [a for a in known if refusal(bundle, backend, a) is None] or known
    whole = (a for a in fit if a.format == "embedded" and isinstance(a.input.shape[1], str))
    return next(whole, next(iter(fit), None))
