"""What several tests of engines do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.trt.fake_cuda import H100, FakeDriver
from tests.trt.fake_tensorrt import Fake
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.tensorrt import TensorRt
from vgg_deploy.bundle import Bundle
from vgg_deploy.cuda import Gpu
from vgg_deploy.trt.build import build_engine
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place

ADA = replace(H100, name="NVIDIA RTX 4090", compute_capability="8.9")


@dataclass
class Told:
    """A watcher that remembers; ``raises`` is thrown at the first advance."""

    said: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    raises: BaseException | None = None

    def begin(self, what: str, total: int | None = None, unit: str = "") -> None:
        self.begun.append(what)

    def advance(self, done: int = 1) -> None:
        if self.raises:
            raise self.raises

    def say(self, text: str) -> None:
        self.said.append(text)


def fake_of(name: str, gpu: Gpu | None = None) -> Fake:
    """A version of TensorRT on a GPU that it supports."""
    return Fake(name, FakeDriver(card=gpu or (ADA if name == "rtx" else H100)))


def place_of(fake: Fake) -> Place:
    """What a build with it stands on."""
    return Place(library=fake.library(), driver=fake.driver, gpu=fake.driver.gpu())


def built(
    bundle: Bundle, fake: Fake, options: BuildOptions | None = None, told: Told | None = None
) -> tuple[Bundle, Artifact, bool]:
    """Build one engine with a fake."""
    place = place_of(fake)
    options = replace(options or BuildOptions(), flavour=place.library.traits.flavour)
    return build_engine(bundle, options, told or Told(), place)


def backend_of(fake: Fake) -> TensorRt:
    """The real backend over a fake library and driver."""
    library = fake.library()
    return TensorRt(
        name="trt",
        flavour=library.traits.flavour,
        library=lambda: library,
        driver=lambda: fake.driver,
    )
