"""The browser app's files in a site that a bundler makes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.embed.conftest import LABELS, lacking
from vgg_deploy.cli import main

VITE = "vite@8.3.8"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PROGRAM = """
import { classify } from './vision/classifier.js';
globalThis.answer = await classify(new ImageData(8, 8), 100).catch(String);
"""
VISIT = """
import { launch } from './chromium.js';
import { pageServer } from './page_server.js';
const server = pageServer({ '/': new URL('site/dist/', import.meta.url) }).listen(0, '127.0.0.1');
const browser = await launch();
const page = await browser.newPage();
page.on('requestfailed', (request) => console.error(request.url()));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.waitForFunction(() => globalThis.answer, null, { timeout: 60_000 });
console.log(JSON.stringify(await page.evaluate(() => answer)));
await browser.close();
server.close();
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_bundler_needs_no_configuration(made: Path, tmp_path: Path) -> None:
    if reason := lacking("browser"):
        pytest.skip(reason)
    app = tmp_path / "app"
    assert main(["embed", str(made), "--target", "browser", "-o", str(app)]) == 0
    for words in (("ci",), ("install", "--no-save", VITE)):
        done = run(
            app, "npm", *words, "--prefer-offline", "--no-audit", "--no-fund", "--engine-strict"
        )
        if done.returncode:
            pytest.skip(f"npm {words[0]} failed: {done.stderr}")
    vision = app / "site" / "vision"
    shutil.copytree(app / "public", vision)
    (vision / "ort").mkdir()
    for name in RUNTIME:
        shutil.copy(app / "node_modules" / "onnxruntime-web" / "dist" / name, vision / "ort")
    (app / "site" / "main.js").write_text(PROGRAM, encoding="utf-8")
    (app / "site" / "index.html").write_text(
        '<!doctype html><script type="module" src="/main.js"></script>', encoding="utf-8"
    )
    (app / "visit.mjs").write_text(VISIT, encoding="utf-8")
    done = run(app, "node_modules/.bin/vite", "build", "site")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(vision)  # what is visited is the site alone
    done = run(app, "node", "visit.mjs")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, list), answer
    assert {label for label, _ in answer} == set(LABELS)
