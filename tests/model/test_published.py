"""Torchvision's published weights: fetched once, known by their digest, never run."""

from __future__ import annotations

import os
import pickle
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from tests.model.test_torchvision import theirs
from vgg_deploy.cli import main
from vgg_deploy.errors import DigestMismatch, RefusedInput, UsageError
from vgg_deploy.files import sha256_of
from vgg_deploy.libraries import import_torchvision
from vgg_deploy.model.torchvision import load_torchvision


def test_unknown_weights_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load_torchvision("VGG16_Weights.IMAGENET1K_V2")
    assert "did you mean 'VGG16_Weights.IMAGENET1K_V1'" in caught.value.remedy


def test_offline_says_where_to_put_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(RefusedInput, match="no network") as caught:
        load_torchvision("VGG11_Weights.IMAGENET1K_V1")
    assert "vgg11-8a719046.pth" in caught.value.remedy
    assert "checkpoints" in caught.value.remedy


def test_a_proxy_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its port was meant to be filled in: an exception that is no ``OSError``."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies it saw first
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:port/")
    words = ["load", "--weights", "VGG11_Weights.IMAGENET1K_V1", "-o", str(tmp_path / "b")]
    assert main(words) == 3
    assert "could not fetch VGG11_Weights.IMAGENET1K_V1: nonnumeric" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


Served = Callable[[Path], Path]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Served:
    """A file is what torchvision's host publishes; its name tells its digest, as theirs do."""

    def serving(content: Path) -> Path:
        path = content.rename(tmp_path / f"vgg11-{sha256_of(content)[:8]}.pth")
        models = import_torchvision("torchvision.models")
        monkeypatch.setattr(models.VGG11_Weights.IMAGENET1K_V1.value, "url", path.as_uri())
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
        return path

    return serving


def test_a_download_becomes_a_card_and_is_kept(
    serve: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(theirs("vgg11").state_dict(), tmp_path / "x.pth")
    published = serve(tmp_path / "x.pth")
    loaded = load_torchvision("VGG11_Weights.IMAGENET1K_V1")
    assert loaded.card.labels[0] == "tench"
    assert (loaded.card.preprocessing.resize, loaded.card.preprocessing.size) == (256, 224)
    assert loaded.card.spec.head == "torchvision"
    assert capsys.readouterr().out == "", "stdout is for results"
    published.unlink()
    again = load_torchvision("VGG11_Weights.IMAGENET1K_V1")
    assert (tmp_path / "hub" / "checkpoints" / published.name).is_file()
    assert all(torch.equal(v, again.state[k]) for k, v in loaded.state.items())


@pytest.mark.parametrize("there", ["an error page", "a pickle that runs code"])
def test_a_file_that_is_not_the_published_one_is_not_opened(
    serve: Served, tmp_path: Path, there: str
) -> None:
    (tmp_path / "x.pth").write_bytes(b"the weights")
    published = serve(tmp_path / "x.pth")
    kept = tmp_path / "hub" / "checkpoints" / published.name
    kept.parent.mkdir(parents=True)
    ran = tmp_path / "ran"
    kept.write_bytes(pickle.dumps(Runs(str(ran))) if "code" in there else b"<html>404</html>")
    with pytest.raises(DigestMismatch, match="is not the published file") as caught:
        load_torchvision("VGG11_Weights.IMAGENET1K_V1")
    assert "remove it" in caught.value.remedy
    assert not ran.exists()


def test_a_published_file_that_runs_code_is_refused(serve: Served, tmp_path: Path) -> None:
    """Its digest is right: what then keeps code from running is weights_only."""
    ran = tmp_path / "ran"
    torch.save(Runs(str(ran)), tmp_path / "y.pth")
    serve(tmp_path / "y.pth")
    with pytest.raises(RefusedInput, match="loading it could run code"):
        load_torchvision("VGG11_Weights.IMAGENET1K_V1")
    assert not ran.exists()


class Runs:
    """Unpickling it makes a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._folder,)
