"""State dict keys that name one tensor twice, or no layer."""

from __future__ import annotations

import pytest

from tests.conftest import make_card
from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.keys import to_ours, to_torchvision
from vgg_deploy.model.torchvision import fitted
from vgg_deploy.model.vgg import VGG

SPEC = make_card().spec


@pytest.mark.parametrize("own_first", [True, False])
def test_one_tensor_under_the_keys_of_two_namings_is_refused(own_first: bool) -> None:
    """Whichever came later would count, and nobody would be told."""
    state = VGG(SPEC).state_dict()
    other = {"head.fc8.bias": state["head.fc8.bias"] + 1}
    theirs = to_torchvision(SPEC, state)
    both = {**other, **theirs} if own_first else {**theirs, **other}
    with pytest.raises(RefusedInput, match=r"hold head\.fc8\.bias twice, under the keys of two"):
        fitted(SPEC, both, source="x")


def test_a_key_of_no_layer_is_told_as_it_is() -> None:
    state = VGG(SPEC).state_dict()
    averaged = {**to_torchvision(SPEC, state), "n_averaged": state["head.fc8.bias"]}
    assert "n_averaged" in to_ours(SPEC, averaged)
    with pytest.raises(RefusedInput, match="too much: n_averaged"):
        fitted(SPEC, averaged, source="x")
