"""The command line: ``main`` is the console script."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from vgg_deploy.cli.handler import run

    return run(args)
