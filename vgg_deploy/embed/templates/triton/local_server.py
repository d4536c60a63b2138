"""A KServe v2 server on 127.0.0.1 for tests and development: no batching, no GPU, no Triton.

It speaks as much of the protocol as ``client.py`` needs: health, metadata, and infer with binary
tensors and Triton's classification extension. Not for production: python local_server.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

MODEL = Path(__file__).resolve().parent / "models" / "classifier"
MOST_BYTES = 256 << 20  # of one request
_LENGTH = "Inference-Header-Content-Length"  # of the JSON before the binary tensors


class Model:
    """The model of the repository, run by ONNX Runtime."""

    def __init__(self, folder: Path = MODEL) -> None:
        """Load version 1; ``ValueError`` when it has not as many classes as there are labels."""
        self.labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
        self._session = ort.InferenceSession(
            str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        classes = self._session.get_outputs()[0].shape[1]
        if len(self.labels) != classes:
            raise ValueError(f"{len(self.labels)} labels for {classes} classes")

    def infer(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Answer one request; ``ValueError`` for what does not fit the model."""
        (given,) = header["inputs"]
        shape = given["shape"]
        if given["name"] != "image" or given["datatype"] != "UINT8" or len(shape) != 4:
            raise ValueError("give one input 'image' of type UINT8 and shape [N, H, W, C]")
        if 0 in shape or np.prod(shape) != len(body):
            raise ValueError(f"{len(body)} bytes are no image of shape {shape}")
        images = np.frombuffer(body, np.uint8).reshape(shape)
        names = [output["name"] for output in header["outputs"]]
        values = self._session.run(names, {"image": images})
        told = [
            self._told(wanted, value)
            for wanted, value in zip(header["outputs"], values, strict=True)
        ]
        return (
            {"model_name": "classifier", "model_version": "1", "outputs": [t[0] for t in told]},
            b"".join(t[1] for t in told),
        )

    def _told(self, wanted: dict[str, Any], value: np.ndarray) -> tuple[dict[str, Any], bytes]:
        count = wanted.get("parameters", {}).get("classification", 0)
        if not count:
            data, kind, shape = value.tobytes(), "FP32", list(value.shape)
        else:
            texts = [text.encode() for row in value for text in self._best(row, count)]
            data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
            kind, shape = "BYTES", [len(value), len(texts) // len(value)]
        about = {"name": wanted["name"], "datatype": kind, "shape": shape}
        return about | {"parameters": {"binary_data_size": len(data)}}, data

    def _best(self, row: np.ndarray, count: int) -> list[str]:
        order = np.argsort(-row, kind="stable")[:count]
        return [f"{row[i]:f}:{i}:{self.labels[i]}" for i in order]


class Handler(BaseHTTPRequestHandler):
    """The protocol over HTTP/1.1."""

    protocol_version = "HTTP/1.1"
    model: Model

    def do_GET(self) -> None:
        """Health and metadata."""
        known = {
            "/v2/health/live": {},
            "/v2/health/ready": {},
            "/v2/models/classifier": {"name": "classifier", "versions": ["1"]},
            "/v2/models/classifier/ready": {},
        }
        found = known.get(self.path)
        self._send(404 if found is None else 200, found or {})

    def do_POST(self) -> None:
        """Infer."""
        size = int(self.headers.get("Content-Length", 0))
        if self.path != "/v2/models/classifier/infer" or not 0 < size <= MOST_BYTES:
            self.close_connection = True  # the body stays unread
            self._send(404, {"error": "POST at most 256 MiB to /v2/models/classifier/infer"})
            return
        body = self.rfile.read(size)
        split = int(self.headers.get(_LENGTH, size))
        try:
            header, data = self.model.infer(json.loads(body[:split]), body[split:])
        except Exception as error:  # the request does not fit, or the runtime refuses it
            self._send(400, {"error": str(error)})
        else:
            self._send(200, header, data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _send(self, code: int, header: dict[str, Any], data: bytes = b"") -> None:
        text = json.dumps(header).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text) + len(data)))
        if data:
            self.send_header(_LENGTH, str(len(text)))
        self.end_headers()
        self.wfile.write(text + data)


class LocalServer:
    """The server in a thread of its own, on a free port, inside a ``with`` block."""

    def __init__(self, port: int = 0) -> None:
        """Load the model and take the port; 0 takes any that is free."""
        handler = type("BoundHandler", (Handler,), {"model": Model()})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalServer:
        """Start to answer."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def main() -> int:
    """Serve until Ctrl-C; 1 when the port cannot be had."""
    parser = argparse.ArgumentParser(description="A KServe v2 server for tests, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    given = parser.parse_args()
    try:
        server = LocalServer(given.port)
    except (OSError, OverflowError) as error:  # taken, or no port
        print(f"port {given.port}: {error}; choose another with --port", file=sys.stderr)
        return 1
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"http://{server.url}, Ctrl-C stops it", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
