"""Which stage is named, from outputs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_deploy.verify.locate import locate

NAMES = ("pool1", "pool2", "fc6")
RANDOM = np.random.default_rng(0)
EXACT = {name: RANDOM.normal(size=(3, 20)) for name in NAMES}
EAGER = {name: values * (1 + 1e-7) for name, values in EXACT.items()}


def test_where_every_stage_is_within_its_limit_none_is_named() -> None:
    found = locate(EAGER.__getitem__, EXACT, EAGER, "fp32")
    assert found.stage is None
    assert found.note == "every stage is within its limit on these images"
    assert [(s.name, s.ok) for s in found.stages] == [(name, True) for name in NAMES]


def test_a_stage_with_a_nan_is_the_first_that_diverges() -> None:
    outputs = {name: values.copy() for name, values in EAGER.items()}
    outputs["pool2"][1, 4] = np.nan
    found = locate(outputs.__getitem__, EXACT, EAGER, "fp32")
    assert (found.stage, found.note) == ("pool2", "between pool1 and pool2")
    assert (found.stages[-1].rel_l2, found.stages[-1].ok) == (None, False)


def test_the_first_stage_of_all_diverges_after_the_input() -> None:
    found = locate(lambda name: EXACT[name] * 1.001, EXACT, EAGER, "fp32")
    assert (found.stage, found.note) == ("pool1", "between the input and pool1")
    assert len(found.stages) == 1, "nothing behind it is run"


@pytest.mark.parametrize(("error", "stage"), [(0.49, None), (0.51, "pool1")])
def test_int8_has_lost_the_picture_at_half_its_norm(error: float, stage: str | None) -> None:
    assert locate(lambda name: EXACT[name] * (1 + error), EXACT, EAGER, "int8").stage == stage


@pytest.mark.parametrize(("error", "ok"), [(1.99e-5, True), (2.01e-5, False)])
def test_a_stage_may_be_twice_as_far_as_torch_eager(error: float, ok: bool) -> None:
    far = {name: values * (1 + 1e-5) for name, values in EXACT.items()}
    found = locate(lambda name: EXACT[name] * (1 + error), EXACT, far, "fp32")
    assert found.stages[0].ok == ok
