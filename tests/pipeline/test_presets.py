"""What a preset trains where the full data set is not on the machine."""

from __future__ import annotations

import pytest

from vgg_deploy.pipeline import run


def test_the_sample_is_trained_with_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = run.PRESETS["fashion-mnist"]
    monkeypatch.setattr(run, "find_fashion_mnist", lambda: None)
    request = run._request(preset)
    assert request.data == "sample"
    assert request.options == preset.on_sample
    monkeypatch.setattr(run, "find_fashion_mnist", lambda: "/somewhere")
    assert run._request(preset) == preset.train
