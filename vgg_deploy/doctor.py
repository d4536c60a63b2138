"""Probe every backend, tool and data set; say what is missing and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Missing
from vgg_deploy.backends.pytorch import missing_compiler
from vgg_deploy.data.fashion_mnist import find_fashion_mnist
from vgg_deploy.environment import Environment, capture
from vgg_deploy.errors import VggDeployError
from vgg_deploy.trt.flavour import load

RTX_BUILDER = "TensorRT-RTX builder"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for; ``remedy`` is empty when it is usable."""

    name: str
    usable: bool
    detail: str  # what it opens or where it was found, or why it is not usable
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything doctor looked at."""

    environment: Environment
    backends: tuple[Finding, ...]
    others: tuple[Finding, ...]


def examine() -> Diagnosis:
    """Look at this machine; nothing is changed and nothing is fetched."""
    return Diagnosis(
        environment=capture(),
        backends=tuple(backend_finding(name) for name in BACKENDS),
        others=(_rtx_builder(), _compiler(), _fashion_mnist(), _gpu()),
    )


def backend_finding(name: str) -> Finding:
    """What one backend opens here, or what it lacks."""
    backend = BACKENDS[name]
    try:
        missing = backend.probe()
    except VggDeployError as error:  # memory ran out: the other rows are worth having
        missing = Missing(error.cause, error.remedy)
    if missing:
        return Finding(name=name, usable=False, detail=missing.reason, remedy=missing.remedy)
    opens = ", ".join(sorted(backend.formats))
    return Finding(name=name, usable=True, detail=f"opens {opens} on {backend.device}")


def _rtx_builder() -> Finding:
    """TensorRT-RTX builds engines without a GPU; running them is the backend's row."""
    name = RTX_BUILDER
    try:
        library = load("tensorrt_rtx")
    except VggDeployError as error:
        return Finding(name=name, usable=False, detail=error.cause, remedy=error.remedy)
    known = ", ".join(library.traits.compute_capabilities)
    detail = f"{library.version}: builds engines for {known}; needs no GPU"
    return Finding(name=name, usable=True, detail=detail)


def _compiler() -> Finding:
    if missing := missing_compiler():
        return Finding(
            name="C++ compiler",
            usable=False,
            detail=f"{missing.reason}; aoti exports and torch-compile need it",
            remedy=missing.remedy,
        )
    return Finding(name="C++ compiler", usable=True, detail="for aoti exports and torch-compile")


def _fashion_mnist() -> Finding:
    try:
        found: Path | None = find_fashion_mnist()
    except VggDeployError as error:
        return Finding(name="Fashion-MNIST", usable=False, detail=error.cause, remedy=error.remedy)
    if found:
        return Finding(name="Fashion-MNIST", usable=True, detail=str(found))
    return Finding(
        name="Fashion-MNIST",
        usable=False,
        detail="the full data is not on this machine; the sample of 6,000 images is",
        remedy="apt-get install dataset-fashion-mnist, or --data-dir, or --data fashion-mnist "
        "to download it",
    )


def _gpu() -> Finding:
    environment = capture()
    if environment.gpu:
        return Finding(
            name="NVIDIA GPU",
            usable=True,
            detail=f"{environment.gpu}, driver {environment.driver}",
        )
    return Finding(
        name="NVIDIA GPU",
        usable=False,
        detail="no driver answers (nvidia-smi)",
        remedy="not needed: everything here runs on the CPU",
    )
