"""What a build stands on: the library, and the GPU where there is one."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy import cuda
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.trt.flavour import Library, load
from vgg_deploy.trt.options import BuildOptions


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a build stands on: the library, and the GPU where there is one."""

    library: Library
    driver: cuda.Driver | None
    gpu: cuda.Gpu | None


def find_place(options: BuildOptions) -> Place:
    """Import the library and look for a GPU, which only some builds need."""
    library = load(options.flavour)
    try:
        driver = cuda.driver()
        return Place(library=library, driver=driver, gpu=driver.gpu())
    except BackendNotAvailable as error:
        if not library.traits.compute_capabilities:
            raise
        if options.compute_capability is None:
            raise BackendNotAvailable(
                f"no GPU to build for: {error.cause}",
                "name its compute capability, for example --compute-capability 8.9",
            ) from error
        return Place(library=library, driver=None, gpu=None)
