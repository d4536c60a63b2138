"""The user's cache, where the user has no home; what a file may take the place of."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from vgg_deploy.data import fashion_mnist
from vgg_deploy.data.fashion_mnist import DATA_VARIABLE, find_fashion_mnist
from vgg_deploy.doctor import examine
from vgg_deploy.errors import RefusedInput
from vgg_deploy.files import atomic, commit, staged, user_cache
from vgg_deploy.pipeline import usual
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.watch import Silent


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container with a uid that it does not know: neither a variable nor an entry."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", DATA_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_a_cache_without_a_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedInput, match="no home directory") as caught:
        user_cache("x")
    assert "XDG_CACHE_HOME" in caught.value.remedy
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("x") == tmp_path / "vgg-deploy" / "x"


@pytest.mark.usefixtures("homeless")
def test_what_only_looks_into_the_cache_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usual, "_file", lambda: user_cache("usual") / "seconds.json")
    begin_usual(Silent(), "step", "a")()
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    assert find_fashion_mnist() is None
    rows = {row.name: row for row in examine().others}
    assert "sample" in rows["Fashion-MNIST"].detail


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_no_file_takes_the_place_of_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "model.onnx"
    os.mkfifo(pipe)
    with pytest.raises(RefusedInput, match="is a device, a pipe or a socket"), atomic(pipe):
        pytest.fail("work for nothing")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_in_a_bundle_is_replaced(tmp_path: Path) -> None:
    """It may lead into a cache of large files, which other checkouts share."""
    cached, link = tmp_path / "cached", tmp_path / "model.onnx"
    cached.write_text("another's")
    link.symlink_to(cached)
    with staged(link) as partial:
        partial.write_text("new")
        commit(partial, link)
    assert (cached.read_text(), link.read_text()) == ("another's", "new")
    assert not link.is_symlink()
