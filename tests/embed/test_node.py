"""The Node.js app in a program of somebody's: its types, and image files as Pillow reads them."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.cli import main
from vgg_deploy.data.images import read_image
from vgg_deploy.embed import TABLE

TYPESCRIPT = "typescript@5.9.3"
PROGRAM = """
import { Classifier, classify, type Found, type Image } from 'image-classifier';
import { readImage } from 'image-classifier/read_image.js';
import * as beside from './classifier.js';

const image: Image = await readImage('photo.jpg');
const found: Found[] = await classify(image, 3);
const model: Classifier = await Classifier.load('/a/folder');
const [label, score]: [string, number] = (await model.classify(image))[0]!;
const { logits }: { logits: Float32Array } = await model.run(image.data, [1, 2, 2, 3]);
await beside.Classifier.load(new URL('file:///a/folder'));
// @ts-expect-error the private constructor
new Classifier();
// @ts-expect-error a path is no image
await classify('photo.jpg');
console.log(found, label, score, logits, model.labels.length);
"""
READ = """
import { readImage } from './read_image.js';
const { data, width, height } = await readImage(process.argv[1]);
console.log(JSON.stringify({ data: [...data], width, height }));
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(any(t.problem() for t in TABLE["node"].tools), reason="needs Node.js 20"),
]


@pytest.fixture(scope="module")
def app(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app with its packages."""
    out = tmp_path_factory.mktemp("node") / "app"
    assert main(["embed", str(made), "--target", "node", "-o", str(out)]) == 0
    install(out, "ci")
    return out


def install(folder: Path, *words: str) -> None:
    code, said = run(
        folder, "npm", *words, "--prefer-offline", "--no-audit", "--no-fund", "--engine-strict"
    )
    if code:
        pytest.skip(f"npm {words[0]} failed: {said}")


def run(folder: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_strict_typescript_takes_it(app: Path) -> None:
    install(app, "install", "--no-save", TYPESCRIPT)
    (app / "program.mts").write_text(PROGRAM, encoding="utf-8")
    words = ("--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "program.mts")
    code, said = run(app, "node_modules/.bin/tsc", *words)
    assert code == 0, said


def test_what_the_package_exports_can_be_imported(app: Path) -> None:
    program = "await Promise.all(process.argv.slice(1).map((name) => import(name)))"
    names = ("", "/classifier.js", "/read_image.js")
    words = ("--input-type=module", "-e", program, *(f"image-classifier{name}" for name in names))
    assert run(app, "node", *words) == (0, "")


def some_cmyk() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    return Image.frombytes("CMYK", (4, 3), pixels.tobytes()).resize(
        (40, 30), Image.Resampling.BICUBIC
    )


@pytest.mark.parametrize("kind", ["adobe.jpg", "ycck.jpg", "plain.jpg", "turned.jpg", "lzw.tiff"])
def test_cmyk_is_read_as_in_training(kind: str, app: Path, tmp_path: Path) -> None:
    path, exif = tmp_path / kind, Image.Exif()
    exif[0x0112] = 6 if kind == "turned.jpg" else 1
    compression = {"compression": "tiff_lzw"} if kind == "lzw.tiff" else {}
    some_cmyk().save(path, exif=exif, **compression)
    if kind in ("ycck.jpg", "plain.jpg"):
        path.write_bytes(other_transform(path.read_bytes(), kind))
    expected = read_image(path, 3)[0]
    code, said = run(app, "node", "--input-type=module", "-e", READ, str(path))
    assert code == 0, said
    found = json.loads(said)
    pixels = np.array(found["data"], np.uint8).reshape(found["height"], found["width"], 3)
    np.testing.assert_array_equal(pixels, expected)


def other_transform(jpeg: bytes, kind: str) -> bytes:
    """The same numbers as YCCK, or without Adobe's mark."""
    start = jpeg.index(b"\xff\xee")
    end = start + 2 + struct.unpack_from(">H", jpeg, start + 2)[0]
    return jpeg[:start] + (jpeg[start : end - 1] + b"\x02" if "ycck" in kind else b"") + jpeg[end:]
