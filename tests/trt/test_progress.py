"""What a build tells of how far it is."""

from __future__ import annotations

from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import Told, built, fake_of
from vgg_deploy.bundle import Bundle
from vgg_deploy.trt.notes import product_names
from vgg_deploy.trt.progress import Kernels


def test_phases_are_told_where_the_library_tells_them(bundle: Bundle, fake: Fake) -> None:
    told = Told()
    built(bundle, fake, told=told)
    phases = [text for text in told.begun if "Timing tactics" in text]
    assert len(phases) == (0 if fake.name == "8.6" else 1)


def test_what_is_timed_is_told_where_the_library_tells_no_phases(bundle: Bundle) -> None:
    """Lines as TensorRT 8.6 writes them (NVIDIA/TensorRT issues 1389 and 4056)."""
    old = fake_of("8.6")
    first, second = _products(bundle)[:2]
    runner = "--------------- Timing Runner: "
    old.verbose = [
        "*************** Autotuning format combination: Half(1,2) -> Half(1,2) ***************",
        f"{runner}<reformat> (Reformat)",
        f"{runner}{first} + node_relu (CaskConvolution[0x80000009])",
        f"{runner}{first} + node_relu (CaskFlattenConvolution)",
        f"{runner}{second} (CublasConvolution)",
    ]
    told = Told()
    built(bundle, old, told=told)
    lines = [text for text in told.begun if "kernels of" in text]
    assert [line.split(": ")[1] for line in lines] == [
        f"kernels of {name}, {number} of {len(_products(bundle))}"
        for number, name in enumerate((first, second), 1)
    ]
    assert not any("kernels of" in line for line in told.said), "within a minute"


def _products(bundle: Bundle) -> tuple[str, ...]:
    onnx = bundle.find("onnx", "fp32")
    assert onnx is not None
    return product_names(bundle.path(onnx).read_bytes())


def test_a_long_build_leaves_a_line_every_minute() -> None:
    told, clock = Told(), iter([0.0, 30.0, 60.0, 60.0, 119.0, 125.0, 125.0])
    kernels = Kernels("TensorRT 8.6 fp16", told, ("a", "b"), lambda: next(clock))
    for nodes in ("a + relu", "b", "b", "a", "pool"):
        kernels.timed(nodes)
    assert told.said == [
        "TensorRT 8.6 fp16: kernels of b, 2 of 2, after 60 s",
        "TensorRT 8.6 fp16: kernels of a, 1 of 2, after 125 s",
    ]
