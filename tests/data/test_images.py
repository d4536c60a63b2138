from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageOps

from vgg_deploy.data import images as module
from vgg_deploy.data.images import read_image, require_image, to_channels
from vgg_deploy.errors import RefusedInput

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(tmp_path: Path, array: NDArray[np.generic], name: str = "x.png") -> Path:
    Image.fromarray(array).save(tmp_path / name)
    return tmp_path / name


def test_rgb_stays_itself_and_grey_is_pillows_luma(tmp_path: Path) -> None:
    path = saved(tmp_path, RGB)
    np.testing.assert_array_equal(read_image(path, 3)[0], RGB)
    expected = np.asarray(Image.fromarray(RGB).convert("L"))
    np.testing.assert_array_equal(read_image(path, 1)[0, :, :, 0], expected)


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = RGB[..., 0].copy()
    path = saved(tmp_path, grey)
    np.testing.assert_array_equal(read_image(path, 1)[0, :, :, 0], grey)
    np.testing.assert_array_equal(read_image(path, 3)[0], np.stack([grey] * 3, -1))


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257 * 200], [65_535, 65_407, 65_406, 1]], np.uint16)
    pixels = read_image(saved(tmp_path, deep), 1)[0, :, :, 0]
    np.testing.assert_array_equal(pixels, [[0, 0, 1, 200], [255, 255, 254, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_is_black(tmp_path: Path, channels: int) -> None:
    rgba = np.full((2, 2, 4), 200, np.uint8)
    rgba[0, :, 3] = 0
    rgba[1, :, 3] = 255
    pixels = read_image(saved(tmp_path, rgba), channels)[0]
    np.testing.assert_array_equal(pixels[0], 0)
    np.testing.assert_array_equal(pixels[1], 200)


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.new("LA", (3, 2), (100, 255))
    image.putpixel((0, 0), (100, 0))
    image.save(tmp_path / "la.png")
    pixels = read_image(tmp_path / "la.png", 1)[0, :, :, 0]
    assert pixels.tolist() == [[0, 100, 100], [100, 100, 100]]


@pytest.mark.parametrize("transparency", [None, 0])
def test_palette(tmp_path: Path, transparency: int | None) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 150, 100])
    image.putpixel((1, 0), 1)
    if transparency is not None:
        image.info["transparency"] = transparency
    image.save(tmp_path / "p.png")
    first = [10, 20, 30] if transparency is None else [0, 0, 0]
    assert read_image(tmp_path / "p.png", 3)[0].tolist() == [[first, [200, 150, 100]]]


def test_one_bit_and_cmyk(tmp_path: Path) -> None:
    saved(tmp_path, np.array([[True, False]]), "bits.png")
    assert read_image(tmp_path / "bits.png", 1).ravel().tolist() == [255, 0]
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red, green, blue = read_image(tmp_path / "c.jpg", 3)[0, 0, 0]
    assert red > 150
    assert max(green, blue) < 100


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", 3)[0], np.rot90(RGB, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_pillows(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3)[0], wanted)


def tiff_tags(*tags: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of these tags: number, type, count, four bytes."""
    entries = b"".join(struct.pack("<HHI4s", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


TURNED = (0x0112, 3, 1, b"\x06\0")


@pytest.mark.parametrize(
    ("exif", "turns"),
    [
        (tiff_tags(TURNED, (0x011A, 2, 4, b"72\0\0")), 1),  # a resolution as text
        (tiff_tags(TURNED, (0x0100, 9, 1, b"\xff\xff\xff\xff")), 1),  # a width of -1
        (tiff_tags(TURNED, (0x0103, 2, 4, b"abc\0")), 1),
        (tiff_tags((0x0112, 2, 2, b"6\0")), 0),
        (b"rubbish!", 0),
    ],
    ids=["resolution", "width", "compression", "orientation", "rubbish"],
)
def test_odd_exif_is_no_damaged_image(tmp_path: Path, exif: bytes, turns: int) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3)[0], np.rot90(RGB, -turns))


def test_a_program_that_calls_itself_a_photo_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "x.jpg", format="EPS")
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given))
    for use in (require_image, lambda path: read_image(path, 3)):
        with pytest.raises(RefusedInput, match=r"x\.jpg is PostScript"):
            use(tmp_path / "x.jpg")
    assert not started


def header_only_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("sides", [(10_001, 10_000), (50_000, 50_000)])
def test_decompression_bombs(tmp_path: Path, sides: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(header_only_png(*sides))
    with pytest.raises(RefusedInput, match="pixels"):
        read_image(tmp_path / "bomb.png", 1)


def test_the_limit_itself_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, RGB)
    monkeypatch.setattr(module, "MAX_PIXELS", 35)
    assert read_image(path, 3).shape == (1, 5, 7, 3)
    monkeypatch.setattr(module, "MAX_PIXELS", 34)
    with pytest.raises(RefusedInput):
        read_image(path, 3)


def test_what_is_no_image(tmp_path: Path) -> None:
    whole = saved(tmp_path, np.repeat(RGB, 40, 0)).read_bytes()
    cases: Sequence[tuple[str, bytes]] = (
        ("text.png", b"hello, this is no image"),
        ("cut.png", whole[: len(whole) // 2]),
        ("header.png", whole[:20]),
        ("empty.png", b""),
    )
    for name, content in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RefusedInput, match=name) as caught:
            read_image(tmp_path / name, 3)
        assert caught.value.remedy
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(RefusedInput):
            read_image(path, 3)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, np.ones((2, 2), np.float32), "f.tiff")
    with pytest.raises(RefusedInput, match="floating point"):
        read_image(path, 1)


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 2, 2), (1, 2, 2, 4)])
def test_to_channels_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(RefusedInput):
        to_channels(np.zeros(shape, np.uint8), 3)


def test_to_channels_refuses_two() -> None:
    with pytest.raises(RefusedInput, match="2 channels"):
        to_channels(np.zeros((1, 2, 2, 1), np.uint8), 2)
