"""selfcheck says which outputs an app exchanged: classes, or logits and probabilities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.export.networks import bundle_with, lively_bundle
from tests.pipeline.foreign_apps import MEAN, STD, App, Network, Outputs, fed, normal, plain, told
from tests.pipeline.judging import judged, written
from vgg_deploy.bundle import Bundle
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.model.vgg import VGG
from vgg_deploy.pipeline.golden import make_golden
from vgg_deploy.spec import ModelCard
from vgg_deploy.verify.mistakes import INPUT_MISTAKES
from vgg_deploy.verify.order import order_of_classes, order_told

LABELS = (
    "pear", "fig", "plum", "lime", "date", "kiwi", "nut", "oat", "rye", "tea", "soy", "yam"
)  # fmt: skip
COUNT = len(LABELS)
ORDERS: dict[str, tuple[list[int], str]] = {
    "two": ([0, 4, 2, 3, 1, *range(5, 12)], "1 (fig) and 4 (date) are exchanged"),
    "three": (
        [0, 4, 2, 3, 9, 5, 6, 7, 8, 1, 10, 11],
        "output 1 (fig) holds class 4 (date), output 4 (date) holds class 9 (tea), "
        "output 9 (tea) holds class 1 (fig)",
    ),
    "pairs": (
        [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10],
        "output 0 (pear) holds class 1 (fig), output 1 (fig) holds class 0 (pear), output 2 (plum) "
        "holds class 3 (lime), output 3 (lime) holds class 2 (plum), output 4 (date) holds class 5 "
        "(kiwi), output 5 (kiwi) holds class 4 (date) and 6 more",
    ),
    "reversed": ([*range(12)][::-1], "the last one comes first"),
    "next": ([*range(1, 12), 0], "each output holds the class 1 place after its own"),
    "before": ([10, 11, *range(10)], "each output holds the class 2 places before its own"),
    "text": ([0, 1, 10, 11, *range(2, 10)], "their numbers are sorted as text"),
    "labels": (sorted(range(12), key=lambda i: LABELS[i]), "they are sorted by label"),
}


def card() -> ModelCard:
    usual = make_card(channels=3)
    return replace(
        usual,
        spec=replace(usual.spec, classes=COUNT),
        preprocessing=replace(usual.preprocessing, mean=MEAN, std=STD),
        labels=LABELS,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_golden(lively_bundle(tmp_path_factory.mktemp("order") / "bundle", card()))


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> VGG:
    return load_model(bundle.path(bundle.checkpoint))


def without_logits(path: Path) -> None:
    document = json.loads(path.read_text())
    for image in document["images"]:
        del image["logits"]
        image["probabilities"] = [round(p, 5) for p in image["probabilities"]]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", ORDERS)
def test_an_order_of_classes_is_told(
    bundle: Bundle,
    network: VGG,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    alone: bool,
) -> None:
    order, words = ORDERS[name]
    app = told(lambda logits: plain(logits[:, order]))
    results = written(bundle, network, app, tmp_path / "out.json")
    if alone:  # and as many places as people print
        without_logits(results)
    code, found, err = judged(bundle, results, capsys)
    best = found["suspects"][0]
    assert (code, found["explained"], best["name"]) == (7, True, "classes-reordered")
    assert f"another order: {words}" in best["cause"]
    assert best["cause"] in err


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_order_of_classes_is_told_at_another_precision(
    bundle: Bundle,
    network: VGG,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
) -> None:
    share = {"fp16": 1e-3, "int8": 3e-2}[precision]

    def coarse(logits: torch.Tensor) -> Outputs:
        noise = share * logits.std() * torch.randn(logits.shape)
        return plain((logits + noise)[:, ORDERS["three"][0]])

    torch.manual_seed(0)
    results = written(
        bundle, network, told(coarse), tmp_path / "out.json", precision=precision
    )  # fmt: skip
    code, found, _ = judged(bundle, results, capsys)
    assert code == 7
    assert found["suspects"][0]["cause"].endswith(ORDERS["three"][1])


def both_wrong(logits: torch.Tensor) -> Outputs:
    return logits.log_softmax(1), logits.sigmoid()


@pytest.mark.parametrize(
    ("outputs", "name", "cause"),
    [
        (
            lambda logits: (logits.softmax(1), logits),
            "outputs-exchanged",
            "logits and probabilities are exchanged",
        ),
        (
            both_wrong,
            "log-softmax+sigmoid",
            "the logits are logarithms of probabilities, and a sigmoid per class instead of a "
            "softmax over all",
        ),
    ],
)
def test_both_kinds_of_output_are_told(
    bundle: Bundle,
    network: VGG,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outputs: object,
    name: str,
    cause: str,
) -> None:
    app: App = told(outputs)  # type: ignore[arg-type]
    code, found, err = judged(
        bundle, written(bundle, network, app, tmp_path / "out.json"), capsys
    )  # fmt: skip
    best = found["suspects"][0]
    assert (code, found["explained"], best["name"], best["cause"]) == (7, True, name, cause)
    assert best["residual"] < 0.02
    assert f"likely cause: {cause}" in err
    assert not {"no-softmax", "sigmoid"} & {s["name"] for s in found["suspects"][1:]}


def test_classes_that_cannot_be_told_apart_keep_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two equal rows of fc8: whichever of the two is meant, one pair is exchanged."""
    state = dict(load_model_state(lively_bundle(tmp_path / "first", card())))
    for key in ("head.fc8.weight", "head.fc8.bias"):
        state[key] = state[key].clone()
        state[key][7] = state[key][4]
    twins = make_golden(bundle_with(tmp_path / "twins", card(), state))
    network: Network = load_model(twins.path(twins.checkpoint))
    app = told(lambda logits: plain(logits[:, ORDERS["two"][0]]))
    _, found, _ = judged(twins, written(twins, network, app, tmp_path / "out.json"), capsys)
    assert found["suspects"][0]["cause"].endswith(": 1 (fig) and 4 (date) are exchanged")


@pytest.mark.parametrize("alone", [False, True])
def test_certain_answers_of_a_wrong_input_are_not_those_of_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], alone: bool
) -> None:
    """Probabilities of a network that is sure are 0 or 1: some other image has the same."""
    state = dict(load_model_state(lively_bundle(tmp_path / "first", card())))
    for key in ("head.fc8.weight", "head.fc8.bias"):
        state[key] = 1000 * state[key]
    sure = make_golden(bundle_with(tmp_path / "sure", card(), state))
    network: Network = load_model(sure.path(sure.checkpoint))
    results = written(
        sure, network, fed(lambda levels: normal(levels.flip(1) / 255)), tmp_path / "out.json"
    )
    if alone:
        without_logits(results)
    _, found, _ = judged(sure, results, capsys)
    assert found["explained"]
    # 0 and 1 do not tell a mirrored image from one with its channels exchanged
    assert found["suspects"][0]["name"] in (INPUT_MISTAKES if alone else ["bgr"])


def test_huge_outputs_have_no_cause_and_no_warning(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = written(bundle, network, told(plain), tmp_path / "out.json")
    document = json.loads(results.read_text())
    for image in document["images"]:
        image["logits"][1] = 1e200
    results.write_text(json.dumps(document))
    code, found, err = judged(bundle, results, capsys)
    assert (code, found["suspects"]) == (7, [])
    assert "nan" not in err


def load_model_state(bundle: Bundle) -> dict[str, torch.Tensor]:
    return load_model(bundle.path(bundle.checkpoint)).state_dict()


def test_noise_is_no_order() -> None:
    """Of a thousand classes some other one is always near, where there are few images."""
    random = np.random.default_rng(0)
    for images in (2, 3):
        have, want = random.normal(size=(2, images, 1000))
        assert order_of_classes(have, want, 1e-4) is None
    assert order_of_classes(want, want, 1e-4) is None


def test_one_wrong_output_is_no_order() -> None:
    want = np.arange(12.0).reshape(3, 4) ** 2
    have = want.copy()
    have[:, 1] = want[:, 3]
    assert order_of_classes(have, want, 1e-4) is None


def test_an_order_with_gaps_is_not_told_class_by_class() -> None:
    assert order_told([1, 1, 0], "abc") == ""


def test_a_label_that_says_no_more_than_the_number_is_left_out() -> None:
    assert order_told([1, 0, 2], ("class 0", "1", "x")) == "0 and 1 are exchanged"
