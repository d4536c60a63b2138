"""Every fault: which network it is planted in, how, and the exit code that is the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import onnx

from tests.export.networks import lively_bundle
from tests.faults import in_export, in_graph, in_quantized, in_runtime
from tests.faults.graph import Graph
from vgg_deploy.artifact import Artifact, Format, Precision, TensorSpec
from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Backend
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.export import export
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.export.source import Source
from vgg_deploy.manifest import MANIFEST, Draft
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.model.vgg import VGG
from vgg_deploy.results import VERIFY_FILE, Verdict, VerifyReport
from vgg_deploy.stored import load

QUICK = ("--no-accuracy", "--images", "8")
# the small network's real int8 file loses about one point on 1,000 images, at 95 % up to two; the
# faults lose far more
TRAINED = ("-b", "ort-cpu", "--images", "8", "--data", "sample", "--max-top1-drop", "3")
Context = AbstractContextManager[object]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``plant`` changes the bundle; what it returns is in force while verify runs."""

    name: str
    base: str
    plant: Callable[[Bundle], Context]
    code: int = 7
    verdict: Verdict = "different"  # of the row that is not right, where there is a report
    words: tuple[str, ...] = ("-b", "ort-cpu", *QUICK)
    group: str = field(default="")


def edited(edit: in_graph.Edit, precision: Precision = "fp32") -> Callable[[Bundle], Context]:
    """The ONNX file as a buggy exporter would have made it, recorded as the real one's."""

    def plant(bundle: Bundle) -> Context:
        artifact = bundle.find("onnx", precision)
        assert artifact is not None
        graph = Graph(onnx.load(str(bundle.path(artifact))))
        edit(graph)
        record(bundle, artifact, lambda path: onnx.save(graph.model, str(path)))
        return nullcontext()

    return plant


def embedded(edit: in_graph.Edit, precision: Precision) -> Callable[[Bundle], Context]:
    """The embedded file as a buggy exporter would have made it."""

    def plant(bundle: Bundle) -> Context:
        made, artifact, _ = export_embedded(bundle, precision=precision)
        graph = Graph(onnx.load(str(made.path(artifact))))
        edit(graph)
        record(made, artifact, lambda path: onnx.save(graph.model, str(path)))
        return nullcontext()

    return plant


def verdicts(root: Path) -> set[Verdict]:
    """What the stored report of a bundle says of the rows that are not right."""
    rows = load(VerifyReport, root / VERIFY_FILE).rows
    return {row.verdict for row in rows} - {"equivalent", "skipped"}


def record(bundle: Bundle, artifact: Artifact, write: Callable[[Path], object]) -> Bundle:
    """Enter other bytes under the artifact's name."""

    def written(path: Path) -> None:
        write(path)

    draft = Draft(
        format=artifact.format,
        precision=artifact.precision,
        input=artifact.input,
        output=artifact.output,
        parent=artifact.parent,
        made_by=artifact.made_by,
    )
    return bundle.add(draft, written)[0]


def exported(edit: in_export.Edit, format: Format) -> Callable[[Bundle], Context]:
    """The real export of a network that is not quite the checkpoint's."""

    def plant(bundle: Bundle) -> Context:
        def altered(source: Source) -> VGG:
            network = load_model(source.path).requires_grad_(False)
            edit(network)
            return network

        found = bundle.find(format)
        if found is not None:
            bundle.path(found).write_bytes(b"to be made again")
        with patch.object(Source, "model", altered):
            export(bundle, format)
        return nullcontext()

    return plant


def running(make: Callable[[Backend, Bundle], Backend]) -> Callable[[Bundle], Context]:
    """A real backend with something in its way."""

    def plant(bundle: Bundle) -> Context:
        return patch.dict(BACKENDS, {"ort-cpu": make(BACKENDS["ort-cpu"], bundle)})

    return plant


def wrapped(wrap: in_runtime.Wrap) -> Callable[[Bundle], Context]:
    return running(lambda inner, _: in_runtime.Through(inner, wrap))


def pixels(prepare: in_runtime.Prepare) -> Callable[[Bundle], Context]:
    """The ONNX file as one that takes pixels; an app prepares them, wrongly."""

    def plant(bundle: Bundle) -> Context:
        takes_pixels(bundle)
        preprocessing = bundle.card.preprocessing
        return running(lambda inner, _: in_runtime.FromPixels(inner, prepare, preprocessing))(
            bundle
        )

    return plant


def takes_pixels(bundle: Bundle) -> None:
    artifact = bundle.find("onnx")
    assert artifact is not None
    image = TensorSpec(
        name="image", dtype="uint8", shape=("batch", "height", "width", 3), layout="NHWC"
    )
    content = bundle.path(artifact).read_bytes()
    record(bundle, replace(artifact, input=image), lambda path: path.write_bytes(content))


def on_disk(edit: Callable[[Path], None]) -> Callable[[Bundle], Context]:
    """The file changed, the manifest not."""

    def plant(bundle: Bundle) -> Context:
        artifact = bundle.find("onnx")
        assert artifact is not None
        edit(bundle.path(artifact))
        return nullcontext()

    return plant


def in_manifest(edit: Callable[[dict[str, object]], None]) -> Callable[[Bundle], Context]:
    """The manifest changed by hand."""

    def plant(bundle: Bundle) -> Context:
        path = bundle.root / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8"))
        edit(manifest)
        path.write_text(json.dumps(manifest), encoding="utf-8")
        return nullcontext()

    return plant


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def labels_permuted(manifest: dict[str, object]) -> None:
    manifest["card"]["labels"].reverse()  # type: ignore[index]


def mean_doubled(manifest: dict[str, object]) -> None:
    preprocessing = manifest["card"]["preprocessing"]  # type: ignore[index]
    preprocessing["mean"] = [2 * m for m in preprocessing["mean"]]


def parent_gone(manifest: dict[str, object]) -> None:
    for artifact in manifest["artifacts"]:  # type: ignore[attr-defined]
        if artifact["format"] == "onnx":
            artifact["parent"] = "0" * 64


def earlier_weights(bundle: Bundle) -> Context:
    """A file of other weights, recorded as made from this checkpoint."""
    other = export(lively_bundle(bundle.root / "other", bundle.card, seed=7), "onnx")[0]
    mine, theirs = bundle.find("onnx"), other.find("onnx")
    assert mine is not None
    assert theirs is not None
    content = other.path(theirs).read_bytes()
    record(bundle, mine, lambda path: path.write_bytes(content))
    return nullcontext()


def _catalogue() -> Iterator[Fault]:
    for base, edits in (
        ("plain", in_graph.IN_PLAIN),
        ("lrn", in_graph.IN_LRN),
        ("odd", in_graph.IN_ODD),
    ):
        for name, edit in edits.items():
            yield Fault(name=name, base=base, plant=edited(edit), group="ONNX graph")
    for name, change in in_export.IN_NORM.items():
        yield Fault(name=name, base="norm", plant=exported(change, "onnx"), group="export")
    for name, change in in_export.IN_SCRIPT.items():
        yield _in_torch(name, change, "torchscript", "-b", "torchscript")
    for name, change in in_export.IN_PROGRAM.items():
        yield _in_torch(name, change, "program", "-b", "torch", "-f", "program")
    for name, wrap in in_runtime.IN_RUNTIME.items():
        yield Fault(name=name, base="plain", plant=wrapped(wrap), group="runtime")
    for name, prepare in in_runtime.IN_PIXELS.items():
        yield Fault(name=name, base="cropped", plant=pixels(prepare), group="app's preprocessing")
    yield from _quantized()
    yield from _files()


def _quantized() -> Iterator[Fault]:
    for name, (precision, edit) in in_quantized.IN_TRAINED.items():
        plant = edited(edit, precision)
        yield Fault(name=name, base="trained", plant=plant, words=TRAINED, group="precision")
    for name, (precision, edit) in in_quantized.IN_EMBEDDED.items():
        plant, words = embedded(edit, precision), (*TRAINED, "-f", "embedded")
        yield Fault(name=name, base="trained", plant=plant, words=words, group="precision")


def _in_torch(name: str, edit: in_export.Edit, format: Format, *words: str) -> Fault:
    return Fault(
        name=name,
        base="plain",
        plant=exported(edit, format),
        words=(*words, *QUICK),
        group="export",
    )


def _files() -> Iterator[Fault]:
    yield Fault(name="bit flipped on disk", base="plain", plant=on_disk(one_bit), code=4)
    yield Fault(name="file truncated", base="plain", plant=on_disk(truncated), code=4)
    yield Fault(name="file gone", base="plain", plant=on_disk(Path.unlink), code=4)
    yield Fault(name="labels permuted", base="plain", plant=in_manifest(labels_permuted), code=4)
    yield Fault(name="mean edited", base="plain", plant=in_manifest(mean_doubled), code=4)
    yield Fault(
        name="made from a file that is gone", base="plain", plant=in_manifest(parent_gone), code=5
    )
    yield Fault(name="file of earlier weights", base="plain", plant=earlier_weights)


FAULTS: Mapping[str, Fault] = {
    fault.name: replace(fault, group=fault.group or "files") for fault in _catalogue()
}


@contextmanager
def planted(fault: Fault, bundle: Bundle) -> Iterator[list[str]]:
    """Plant it; the words of the command that must find it."""
    with fault.plant(bundle):
        yield ["verify", str(open_bundle(bundle.root).root), *fault.words]
