"""What a check of a machine runs in processes of their own, as lines of JSON on stdout.

    python -m vgg_deploy.pipeline.machine_child make NETWORK BUNDLE --device cuda
    python -m vgg_deploy.pipeline.machine_child probe BACKEND
    python -m vgg_deploy.pipeline.machine_child limits cuda
    python -m vgg_deploy.pipeline.machine_child verify BACKEND BUNDLE --batch 1 --batch 8
    python -m vgg_deploy.pipeline.machine_child golden BACKEND BUNDLE --batch 1 --precision fp16
    python -m vgg_deploy.pipeline.machine_child bench BACKEND BUNDLE --batch 1 --seconds 3

``golden``, ``probe`` and ``bench`` need no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vgg_deploy import environment, jsonio
from vgg_deploy.errors import VggDeployError
from vgg_deploy.process import end_with_parent

Verb = Callable[[argparse.Namespace], VggDeployError | None]


def main(words: Sequence[str]) -> int:
    """Exit code of the command that does the same; each answer is one line."""
    given = _parser().parse_args(words)
    try:
        error = _VERBS[given.verb](given)
    except VggDeployError as raised:
        error = raised
    if error is None:
        return 0
    print(f"error: {error.cause}; {error.remedy}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in _VERBS:
        verb = verbs.add_parser(name)
        verb.add_argument("name")
        if name not in ("probe", "limits"):
            verb.add_argument("bundle", type=Path)
        if name == "make":
            verb.add_argument("--device", default="cpu")
            verb.add_argument("--random", action="store_true")
        if name in ("verify", "golden", "bench"):
            verb.add_argument("--batch", type=int, action="append", required=True)
            verb.add_argument("--precision", default="")
        verb.add_argument("--images", type=int, default=16)
        verb.add_argument("--seconds", type=float, default=3.0)
    return parser


def _make(given: argparse.Namespace) -> None:
    from vgg_deploy.pipeline.machine_weights import make

    _give(json.dumps(make(given.name, given.bundle, given.device, random=given.random)))


def _probe(given: argparse.Namespace) -> None:
    """What doctor says of one backend."""
    from vgg_deploy.doctor import backend_finding

    found = {
        "backend": json.loads(jsonio.dumps(backend_finding(given.name))),
        "environment": json.loads(jsonio.dumps(environment.capture())),
    }
    _give(json.dumps(found))


def _limits(given: argparse.Namespace) -> None:
    from vgg_deploy.pipeline.machine_cells import limits

    rows = [json.loads(jsonio.dumps(ceiling)) for ceiling in limits(given.name)]
    _give(json.dumps({"ceilings": rows}))


def _verify(given: argparse.Namespace) -> VggDeployError | None:
    from vgg_deploy.pipeline.machine_cells import verify

    report, error = verify(given.name, given.bundle, given.precision, given.batch, given.images)
    _give(jsonio.dumps(report, indent=None))
    return error


def _golden(given: argparse.Namespace) -> VggDeployError | None:
    from vgg_deploy.pipeline.machine_cells import golden

    report, error = golden(given.name, given.bundle, given.precision, given.batch)
    _give(jsonio.dumps(report, indent=None))
    return error


def _bench(given: argparse.Namespace) -> VggDeployError | None:
    from vgg_deploy.pipeline.machine_cells import bench

    return bench(
        given.name,
        given.bundle,
        given.precision,
        given.batch,
        given.seconds,
        lambda report: _give(jsonio.dumps(report, indent=None)),
    )


def _give(line: str) -> None:
    """At once: this process may be ended at any time."""
    print(line, flush=True)  # noqa: T201


_VERBS: dict[str, Verb] = {
    "make": _make,
    "probe": _probe,
    "limits": _limits,
    "verify": _verify,
    "golden": _golden,
    "bench": _bench,
}

if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1:]))
