"""Torchvision's weights in our network, and files that are not weights."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import make_card
from vgg_deploy.errors import RefusedInput
from vgg_deploy.libraries import import_torchvision
from vgg_deploy.model.checkpoint import load_model, save_checkpoint
from vgg_deploy.model.infer import infer_spec
from vgg_deploy.model.keys import book_names, to_ours, to_torchvision
from vgg_deploy.model.state_file import read_state
from vgg_deploy.model.torchvision import (
    WEIGHTS,
    fitted,
    has_card,
    load_file,
)
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelSpec

VARIANTS = sorted(WEIGHTS.values())


WHOLE = ["vgg11", "vgg19_bn"]


def theirs(arch: str, *, fc_width: int | None = None) -> torch.nn.Module:
    """Torchvision's module with random weights and batch norm statistics that are not 0 and 1.

    With ``fc_width`` its three large layers are that narrow and give 10 classes.
    """
    torch.manual_seed(1)
    models = import_torchvision("torchvision.models")
    with torch.device("meta" if fc_width else "cpu"):
        module: torch.nn.Module = models.get_model(arch)
    if fc_width:
        features, head = module.features, module.classifier
        assert isinstance(features, torch.nn.Sequential)
        assert isinstance(head, torch.nn.Sequential)
        features.to_empty(device="cpu")
        shapes = ((512 * 7 * 7, fc_width), (fc_width, fc_width), (fc_width, 10))
        for index, shape in zip((0, 3, 6), shapes, strict=True):
            head[index] = torch.nn.Linear(*shape)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d) and fc_width:
            layer.reset_parameters()
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_()
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2.0)
    return module.eval()


def check_bit_identical(spec: ModelSpec, module: torch.nn.Module, images: int) -> None:
    ours = VGG(spec).eval()
    ours.load_state_dict(fitted(spec, module.state_dict(), source=spec.arch))
    batch = torch.randn(images, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        logits = ours(batch)
        assert torch.equal(logits, module(batch))
    assert logits.std() > 0


@pytest.mark.parametrize("arch", WHOLE)
def test_same_weights_give_bit_identical_logits(arch: str) -> None:
    check_bit_identical(ModelSpec.named(arch, head="torchvision"), theirs(arch), 2)


@pytest.mark.parametrize("arch", [arch for arch in VARIANTS if arch not in WHOLE])
def test_so_do_those_of_the_others_below_a_narrow_head(arch: str) -> None:
    """The head is the same in all; its weights would be most of the work."""
    spec = ModelSpec.named(arch, head="torchvision", fc_width=16, classes=10)
    check_bit_identical(spec, theirs(arch, fc_width=16), 1)


@pytest.mark.parametrize("arch", VARIANTS)
def test_every_weight_of_torchvisions_has_its_place(arch: str) -> None:
    spec = ModelSpec.named(arch, head="torchvision")
    with torch.device("meta"):
        wanted = VGG(spec).state_dict()
        module = import_torchvision("torchvision.models").get_model(arch)
    found = to_ours(spec, module.state_dict())
    assert [(k, v.shape) for k, v in found.items()] == [(k, v.shape) for k, v in wanted.items()]


@pytest.mark.parametrize("arch", ["vgg11_bn", "vgg16_bn"])
def test_batch_norm_without_counts(arch: str) -> None:
    """The published files of the _bn networks are older than ``num_batches_tracked``."""
    spec = ModelSpec.named(arch, width=1 / 16, size=64, classes=10, fc_width=16)
    state = to_torchvision(spec, VGG(spec).state_dict())
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    loaded = fitted(spec, old, source=arch)
    VGG(spec).load_state_dict(loaded)
    counts = [v for k, v in loaded.items() if k.endswith("num_batches_tracked")]
    assert counts
    assert all(v.dtype == torch.int64 and int(v) == 0 and v.ndim == 0 for v in counts)


@pytest.mark.parametrize("width", [0.3, 0.25, 0.1, 0.77, 1.0])
@pytest.mark.parametrize("arch", ["vgg11", "1x10-1x23"])
def test_the_width_follows_from_the_weights(arch: str, width: float) -> None:
    spec = ModelSpec.named(arch, width=width, size=64, channels=1, classes=10, fc_width=16)
    state = VGG(spec).state_dict()
    found = infer_spec(state, arch)
    assert found.blocks == spec.blocks
    fitted(found, state, source="x")


@pytest.mark.skipif(os.name == "nt", reason="other rights there")
def test_a_checkpoint_has_the_rights_of_other_files(tmp_path: Path) -> None:
    card = make_card("1x4", size=16)
    save_checkpoint(tmp_path / "x.safetensors", card, VGG(card.spec).state_dict())
    (tmp_path / "y").write_text("y")
    modes = [(tmp_path / name).stat().st_mode for name in ("x.safetensors", "y")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("arch", ["vgg11", "vgg13_bn", "vgg16_1x1", "vgg11_lrn", "1x4-2x8"])
def test_keys_survive_the_way_there_and_back(arch: str) -> None:
    spec = ModelSpec.named(arch, width=1 / 16, size=64, classes=10, fc_width=16)
    state = VGG(spec).state_dict()
    back = to_ours(spec, to_torchvision(spec, state))
    assert list(back) == list(state)
    assert all(torch.equal(back[k], state[k]) for k in state)


def test_the_books_own_keys_are_understood() -> None:
    spec = ModelSpec.named("vgg11", width=1 / 16, size=32, channels=1, classes=10, fc_width=16)
    state = VGG(spec).state_dict()
    names = book_names(spec)
    assert (names["head.fc6"], names["head.fc8"]) == ("6", "12")
    book = {
        f"net.{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in state.items()
    }
    assert list(fitted(spec, book, source="book")) == list(state)


@pytest.mark.parametrize(
    "wrapped",
    [
        "features.module.{}",  # PyTorch's ImageNet example: only the features are parallel
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "model.{}",
        "model._orig_mod.net.module.{}",
    ],
)
def test_wrappers_are_taken_off_wherever_they_stand(wrapped: str) -> None:
    spec = ModelSpec.named("vgg11_bn", width=1 / 16, size=64, classes=10, fc_width=16)
    state = VGG(spec).state_dict()
    theirs = to_torchvision(spec, state)
    if "features" in wrapped:
        found = {k.replace("features.", "features.module."): v for k, v in theirs.items()}
    else:
        found = {wrapped.format(k): v for k, v in theirs.items()}
    ours = fitted(infer_spec(found, "vgg11_bn"), found, source="x")
    assert list(ours) == list(state)
    assert all(torch.equal(ours[k], state[k]) for k in state)


def test_one_tensor_with_and_without_a_wrapper_is_refused() -> None:
    spec = make_card().spec
    state = VGG(spec).state_dict()
    twice = {**state, "module.head.fc8.bias": state["head.fc8.bias"] + 1}
    with pytest.raises(RefusedInput, match=r"hold head\.fc8\.bias twice"):
        fitted(spec, twice, source="x")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_in_torchvision_keys(tmp_path: Path, suffix: str) -> None:
    spec = ModelSpec.named("vgg11", width=1 / 16, size=64, classes=10, fc_width=16)
    state = to_torchvision(spec, VGG(spec).state_dict())
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        save_file(state, path)
    read = read_state(path)
    inferred = infer_spec(read, "vgg11")
    assert (inferred.width, inferred.channels, inferred.classes) == (1 / 16, 3, 10)
    assert (inferred.size, inferred.fc_width, inferred.head) == (64, 16, "book")
    ours = fitted(inferred, read, source="x")
    assert torch.equal(ours["head.fc8.weight"], state["classifier.6.weight"])
    assert list(ours) == list(VGG(spec).state_dict())


def test_our_own_checkpoint_says_itself_what_it_is(tmp_path: Path) -> None:
    card = make_card()
    path = tmp_path / "checkpoint.safetensors"
    state = VGG(card.spec).state_dict()
    save_checkpoint(path, card, state)
    assert has_card(path)
    loaded = load_file(path)
    assert loaded.card == card
    assert torch.equal(loaded.state["blocks.0.0.weight"], state["blocks.0.0.weight"])
    assert not load_model(path).training


class Evil:
    """What a malicious pickle looks like: a call on loading."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (print, ("this must never run",))


def test_a_pickle_is_refused_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(Evil(), path)
    with pytest.raises(RefusedInput, match="more than tensors") as caught:
        read_state(path)
    assert "state_dict" in caught.value.remedy
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(RefusedInput):
        read_state(path)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"no weights here", b"PK\x03\x04 truncated", b"\x00" * 64])
def test_garbage_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RefusedInput):
        read_state(path)


def test_what_does_not_fit_is_told_briefly() -> None:
    spec = ModelSpec.named("vgg11", width=1 / 16, size=32, channels=1, classes=10, fc_width=16)
    other = ModelSpec.named("vgg13", width=1 / 16, size=32, channels=1, classes=12, fc_width=16)
    with pytest.raises(RefusedInput) as caught:
        fitted(spec, VGG(other).state_dict(), source="x.pth")
    assert "too much: blocks.0.2.weight" in caught.value.cause
    assert "head.fc8.weight (12, 16) instead of (10, 16)" in caught.value.cause
    assert len(caught.value.cause) < 500


def test_nan_and_integer_weights_are_refused() -> None:
    spec = make_card().spec
    state = VGG(spec).state_dict()
    broken = {**state, "head.fc8.bias": torch.full_like(state["head.fc8.bias"], float("nan"))}
    with pytest.raises(RefusedInput, match="NaN"):
        fitted(spec, broken, source="x")
    integers = {**state, "head.fc8.bias": state["head.fc8.bias"].int()}
    with pytest.raises(RefusedInput, match=r"wrong dtype: head.fc8.bias int32"):
        fitted(spec, integers, source="x")


def test_half_precision_weights_become_float32() -> None:
    spec = make_card().spec
    half = {k: v.half() for k, v in VGG(spec).state_dict().items()}
    assert {v.dtype for v in fitted(spec, half, source="x").values()} == {torch.float32}


def test_ceil_mode_and_many_blocks(tmp_path: Path) -> None:
    spec = ModelSpec.named("vgg11", size=28, width=0.1, channels=1, classes=10, ceil_mode=True)
    state = VGG(spec).state_dict()
    assert infer_spec(state, "vgg11", size=28, ceil_mode=True).map_sizes == spec.map_sizes
    deep = "-".join(["1x4"] * 8)
    spec = ModelSpec.named(deep, size=256, channels=3, classes=10)
    assert infer_spec(VGG(spec).state_dict(), deep, size=256).map_sizes[-1] == 1


def test_torchvision_beside_a_torch_without_its_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault that cannot be provoked here: the first import fails as beside a CPU-only torch."""
    import importlib

    from vgg_deploy import libraries

    real = importlib.import_module
    calls: list[str] = []

    def once_broken(name: str) -> object:
        if name == "torchvision" and not calls:
            calls.append(name)
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name)

    declared: list[bool] = []
    monkeypatch.setattr(importlib, "import_module", once_broken)
    monkeypatch.setattr(libraries, "_declare_missing_operators", lambda: declared.append(True))
    monkeypatch.setattr(libraries, "_forget", lambda package: None)
    assert import_torchvision("torchvision").__name__ == "torchvision"
    assert declared == [True]
