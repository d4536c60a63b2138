from __future__ import annotations

import errno
import gzip
import hashlib
import importlib
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vgg_deploy.data import fashion_mnist
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.idx import format_idx
from vgg_deploy.data.published import LABELS, OFFICIAL, SAMPLE, Files, IdxFile, SplitFiles
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    RefusedInput,
    ResourceLimit,
    UsageError,
    VggDeployError,
)

NAMES = [file.name for split in OFFICIAL.values() for file in (split.images, split.labels)]


def tiny_content(name: str) -> bytes:
    count = 20 if name.startswith("train") else 10
    rng = np.random.default_rng(count)
    if "images" in name:
        return format_idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
    return format_idx(np.arange(count, dtype=np.uint8) % 10)


def tiny_files() -> Files:
    def entry(name: str) -> IdxFile:
        content = tiny_content(name)
        digest = hashlib.sha256(content).hexdigest()
        return IdxFile(name=name, size_bytes=len(content), sha256=digest)

    return {
        key: SplitFiles(images=entry(split.images.name), labels=entry(split.labels.name))
        for key, split in OFFICIAL.items()
    }


def put(folder: Path, *, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        content = tiny_content(name)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=7))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the data set, on which the published files are tiny ones."""
    monkeypatch.setattr(fashion_mnist, "OFFICIAL", tiny_files())
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VGG_DEPLOY_DATA", raising=False)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Replace torchvision's download by ``act(root)``."""

    def replace(act: Callable[[Path], None]) -> None:
        class Fake:
            def __init__(self, root: str, download: bool) -> None:
                assert download
                act(Path(root))

        monkeypatch.setattr("torchvision.datasets.FashionMNIST", Fake)

    return replace


def test_sample_is_whole_and_stratified() -> None:
    data = load_dataset("sample")
    assert data.train.images.shape == (5000, 28, 28, 1)
    assert data.test.images.shape == (1000, 28, 28, 1)
    assert np.bincount(data.train.labels).tolist() == [500] * 10
    assert np.bincount(data.test.labels).tolist() == [100] * 10
    assert data.labels == LABELS
    data.train.images[0, 0, 0] = 0  # writable, so torch.from_numpy does not warn


def test_sample_comes_from_the_official_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if fashion_mnist.find_fashion_mnist() is None:
        pytest.skip("the full data set is not on this machine")
    full = load_dataset("auto")
    assert (full.name, len(full.train), len(full.test)) == ("fashion-mnist", 60_000, 10_000)
    sample = load_dataset("sample")
    known = {image.tobytes() for image in full.train.images}
    assert all(image.tobytes() in known for image in sample.train.images[::50])


@pytest.mark.parametrize("packed", [True, False])
def test_packed_and_plain_files_hold_the_same(tmp_path: Path, packed: bool) -> None:
    data = load_dataset("fashion-mnist", put(tmp_path / "d", packed=packed))
    assert data.train.images.shape == (20, 28, 28, 1)
    assert data.test.labels.tolist() == list(range(10))
    assert data.test.labels.dtype == np.int64


def test_torchvision_layout(tmp_path: Path) -> None:
    put(tmp_path / "d" / "FashionMNIST" / "raw", packed=False)
    assert load_dataset("fashion-mnist", tmp_path / "d").source.endswith("raw")


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / "cache" / "vgg-deploy" / "fashion-mnist", tmp_path / "debian"]
    for place in places:
        put(place)
        assert load_dataset("fashion-mnist").source == str(place)
    monkeypatch.setenv("VGG_DEPLOY_DATA", str(put(tmp_path / "variable")))
    assert load_dataset("auto").source == str(tmp_path / "variable")
    given = put(tmp_path / "given")
    assert load_dataset("fashion-mnist", given).source == str(given)


def test_auto_uses_the_sample_and_no_network(
    downloads: Callable[[Callable[[Path], None]], None],
) -> None:
    downloads(lambda root: pytest.fail("auto must not download"))
    assert load_dataset("auto").name == "sample"


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_named_folder_without_the_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    put(tmp_path / "debian")  # what it must not fall back to
    partial = put(tmp_path / "partial")
    (partial / f"{NAMES[1]}.gz").unlink()
    if by_variable:
        monkeypatch.setenv("VGG_DEPLOY_DATA", str(partial))
    with pytest.raises(RefusedInput, match=f"lacks {NAMES[1]}"):
        load_dataset("fashion-mnist", None if by_variable else partial)
    with pytest.raises(RefusedInput, match="not a folder"):
        load_dataset("auto", tmp_path / "absent")


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    unpacked = gzip.decompress(content)
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "edited": gzip.compress(unpacked[:-1] + bytes([unpacked[-1] ^ 1])),
            "shorter": gzip.compress(unpacked[:-1]),
            "bomb": gzip.compress(unpacked + bytes(50_000_000)),
            "no gzip": b"<html>not found</html>",
            "bad stream": content[:40] + b"\xff" * 40 + content[80:],
            "empty": b"",
        }[how]
    )


@pytest.mark.parametrize(
    "how", ["truncated", "edited", "shorter", "bomb", "no gzip", "bad stream", "empty"]
)
@pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
def test_a_changed_file_is_named(tmp_path: Path, how: str, name: str) -> None:
    folder = put(tmp_path / "d")
    damage(folder / f"{name}.gz", how)
    with pytest.raises(DigestMismatch, match=name) as caught:
        load_dataset("fashion-mnist", folder)
    assert caught.value.exit_code == 4


def test_download_enters_the_cache_once(
    tmp_path: Path, downloads: Callable[[Callable[[Path], None]], None]
) -> None:
    downloads(lambda root: void(put(root / "FashionMNIST" / "raw")))
    first = load_dataset("fashion-mnist")
    downloads(lambda root: pytest.fail("it is in the cache"))
    assert load_dataset("fashion-mnist").source == first.source
    cache = tmp_path / "cache" / "vgg-deploy" / "fashion-mnist"
    assert sorted(p.name for p in cache.iterdir()) == sorted(f"{name}.gz" for name in NAMES)


def void(value: object) -> None:
    del value


def offline(root: Path) -> None:
    raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried somewhere")


def wrong_file(root: Path) -> None:
    damage(put(root / "FashionMNIST" / "raw") / f"{NAMES[0]}.gz", "edited")


@pytest.mark.parametrize(("act", "kind"), [(offline, RefusedInput), (wrong_file, DigestMismatch)])
def test_a_failed_download_leaves_nothing(
    tmp_path: Path,
    downloads: Callable[[Callable[[Path], None]], None],
    act: Callable[[Path], None],
    kind: type[VggDeployError],
) -> None:
    downloads(act)
    with pytest.raises(kind) as caught:
        load_dataset("fashion-mnist")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    if kind is RefusedInput:
        for way in ("dataset-fashion-mnist", "--data-dir", "VGG_DEPLOY_DATA", "network", "sample"):
            assert way in caught.value.remedy


def test_a_proxy_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port was meant to be filled in: an exception that is no ``OSError``."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies it saw first
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://proxy:port/")
    with pytest.raises(RefusedInput, match="its download failed: nonnumeric port"):
        load_dataset("fashion-mnist")


def test_a_full_disk_is_no_failed_download(
    downloads: Callable[[Callable[[Path], None]], None],
) -> None:
    def full(root: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    downloads(full)
    with pytest.raises(ResourceLimit, match="No space left") as caught:
        load_dataset("fashion-mnist")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (ImportError("no module"), "to download it this needs torchvision"),
        (RuntimeError("undefined symbol: x"), "torchvision, which cannot be imported: undefined"),
    ],
)
def test_without_torchvision_the_other_ways_are_told(
    monkeypatch: pytest.MonkeyPatch, broken: Exception, said: str
) -> None:
    real = importlib.import_module

    def fails(name: str) -> object:
        if name.startswith("torchvision"):
            raise broken
        return real(name)

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(BackendNotAvailable, match=said) as caught:
        load_dataset("fashion-mnist")
    for way in ("pip install", "dataset-fashion-mnist", "--data-dir", "--data sample"):
        assert way in caught.value.remedy


def test_torchvision_beside_a_torch_without_its_operators_downloads(
    monkeypatch: pytest.MonkeyPatch, downloads: Callable[[Callable[[Path], None]], None]
) -> None:
    downloads(lambda root: void(put(root / "FashionMNIST" / "raw")))
    asked: list[str] = []

    def mended(name: str) -> object:
        asked.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(fashion_mnist, "import_torchvision", mended)
    assert len(load_dataset("fashion-mnist").train) == 20
    assert asked == ["torchvision.datasets"]


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load_dataset("fashion-mnits")
    assert "'fashion-mnist'" in caught.value.remedy


def test_the_sample_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="inside the package"):
        load_dataset("sample", tmp_path)


def test_debians_files_are_the_published_ones() -> None:
    """With the publisher's gzip header put back, Debian's file has the published MD5 sum."""
    path = Path("/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz")
    if not path.is_file():
        pytest.skip("the Debian package is not installed")
    time = (1504176627).to_bytes(4, "little")  # 31 August 2017
    header = b"\x1f\x8b\x08\x08" + time + b"\x00\x03" + b"t10k-labels-idx1-ubyte\0"
    whole = header + path.read_bytes()[10:]
    digest = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    assert digest == "bb300cfdad3c16e7a12a480ee83cd310"
    assert hashlib.sha256(gzip.decompress(whole)).hexdigest() == OFFICIAL["test"].labels.sha256


def test_make_sample_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts import make_sample

    monkeypatch.undo()
    if fashion_mnist.find_fashion_mnist() is None:
        pytest.skip("the full data set is not on this machine")
    make_sample.write_sample(None, tmp_path)
    for path in tmp_path.iterdir():
        made = gzip.decompress(path.read_bytes())
        kept = gzip.decompress((make_sample.SAMPLE_FOLDER / path.name).read_bytes())
        assert made == kept  # the packing depends on zlib's version, the content must not
    assert all(f.images.sha256 in capsys.readouterr().out for f in [SAMPLE["train"]])


def test_the_sample_carries_its_licence() -> None:
    from scripts import make_sample

    text = (make_sample.SAMPLE_FOLDER / "LICENSE").read_text()
    assert "2017 Zalando SE" in text
    assert "Permission is hereby granted" in text
    size = sum(p.stat().st_size for p in make_sample.SAMPLE_FOLDER.iterdir())
    assert size < 2_700_000  # bytes in every wheel
