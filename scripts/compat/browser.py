"""One case in onnxruntime-web inside headless Chromium, served from this process."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scripts.compat.environments import RUNNERS, chromium, web_folder

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}


def run_in_chromium(case: Mapping[str, Any], cache: Path, timeout: float) -> dict[str, Any]:
    """Outputs as the page posts them."""
    program, package = chromium(), web_folder(cache)
    files = {
        "/": RUNNERS / "page.html",
        "/model.onnx": Path(case["model"]),
        **{f"/input-{i}.bin": Path(e["file"]) for i, e in enumerate(case["inputs"])},
        **{f"/ort/{path.name}": path for path in package.glob("ort*") if path.is_file()},
    }
    arrived = threading.Event()
    answers: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(dict(case)).encode() if self.path == "/case.json" else None
            path = files.get(self.path)
            if content is None and path is None:
                self.send_error(404)
                return
            self.send_response(200)
            suffix = Path(self.path).suffix or (".html" if self.path == "/" else "")
            self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
            self.end_headers()
            self.wfile.write(path.read_bytes() if path else content or b"")

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            answers.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        url = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + timeout
            while not arrived.wait(1) and browser.poll() is None and time.monotonic() < end:
                pass
        finally:
            server.shutdown()
            _end(browser)
    if not answers:
        early = time.monotonic() < end
        what = "Chromium ended without an answer" if early else f"no answer in {timeout:.0f} s"
        return {"version": "", "loads": False, "error": what}
    package_json = json.loads((package.parent / "package.json").read_text(encoding="utf-8"))
    return {**answers[0], "version": package_json["version"]}


def _end(browser: subprocess.Popen[bytes]) -> None:
    """End Chromium, with force where it does not listen: its answer has arrived or never will."""
    browser.terminate()
    try:
        browser.wait(30)
    except subprocess.TimeoutExpired:
        browser.kill()
        browser.wait()
