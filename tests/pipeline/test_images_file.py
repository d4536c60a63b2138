"""The file that records which images a network has seen, and what becomes of it elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.records import SHORT, pictures, with_notes
from vgg_deploy.bundle import Bundle
from vgg_deploy.files import sha256_of
from vgg_deploy.pipeline.images_file import KEY, ImageRow, record_of, write_images
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle

ROW = ImageRow(file="red/0.png", label="red", part="train", sha256="0" * 16)


def holding(bundle: Bundle, data: bytes) -> Bundle:
    """The bundle with another file, of which it has the digest."""
    path = bundle.root / "training" / "images.csv"
    path.write_bytes(data)
    return with_notes(bundle, {KEY: sha256_of(path)})


def test_any_file_name(own: Bundle) -> None:
    names = ['a,b "c".png', "two\nlines.png", "\r.png", " 猫.png", "=1+1.png"]
    rows = [ImageRow(file=n, label="x, y", part="train", sha256="0" * 16) for n in names]
    digest = write_images(own.root, rows)
    assert record_of(with_notes(own, {KEY: digest})) == tuple(rows)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"file,class,part\nred/0.png,red,train\n",
        b"file,class,part,sha256\nred/0.png,red,train\n",
        b"file,class,part,sha256\n\xff.png,red,train,0000000000000000\n",
        b'file,class,part,sha256\n"' + b"x" * 200_000 + b'",red,train,0000000000000000\n',
    ],
)
def test_what_is_no_record_is_none(own: Bundle, data: bytes) -> None:
    assert record_of(holding(own, data)) is None


def test_a_later_version_may_have_more_columns(own: Bundle) -> None:
    data = b"part,file,width,class,sha256\ntrain,red/0.png,64,red,0000000000000000\n"
    assert record_of(holding(own, data)) == (ROW,)


def test_a_record_that_may_not_be_read_is_none(
    own: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record_of(own)
    is_file = Path.is_file

    def closed(path: Path) -> bool:
        if path.name == "images.csv":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", closed)
    assert record_of(own) is None
    data = pictures(tmp_path / "others", 10, 1)
    request = TrainRequest(start=own.root, data=str(data), options=SHORT)
    bundle = train_bundle(tmp_path / "b", request)
    assert bundle.checkpoint.made_by["weights_files"] == own.checkpoint.made_by["dataset_files"]


def test_its_digest_is_the_same_on_windows(own: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_crlf(path: Path, text: str, encoding: str) -> int:
        return path.write_bytes(text.replace("\n", "\r\n").encode(encoding))

    here = write_images(own.root, [ROW])
    monkeypatch.setattr(Path, "write_text", with_crlf)
    assert write_images(own.root, [ROW]) == here
