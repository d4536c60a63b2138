"""Judge the outputs of a foreign app against a bundle's golden vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vgg_deploy import jsonio
from vgg_deploy.backends.reference import eager_blocks
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import NotEquivalent, StaleEngine
from vgg_deploy.files import word
from vgg_deploy.golden import VERSION, AppResults, Selfcheck, load_image, load_index
from vgg_deploy.libraries import why_not
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.verify.diagnose import diagnose
from vgg_deploy.verify.mistakes import Floats
from vgg_deploy.verify.selfcheck import judge_results

_WRITTEN = jsonio.Version("version", VERSION, "write the version that docs/golden.md tells")
_RESULTS = jsonio.Told(
    "the app's results", "have the app write JSON as docs/golden.md tells, and give that file"
)


def selfcheck(bundle: Bundle, results: Path, watch: Watcher | None = None) -> Selfcheck:
    """The verdict on the results file, with the likely cause where it is not equivalent.

    Looking for the cause needs torch; without it the verdict has none. Raises ``RefusedInput``
    for a file that is not in the format, ``DigestMismatch`` for changed golden vectors.
    """
    watch = watch or Silent()
    bundle.check_golden()
    folder = bundle.golden_folder
    index = load_index(folder)
    if index.weights_sha256 != bundle.checkpoint.sha256:
        raise StaleEngine(
            f"the golden vectors in {bundle.root} are those of other weights",
            f"make them again: vgg-deploy export {word(bundle.root)} --format onnx",
        )
    given = jsonio.load(AppResults, results, _WRITTEN, _RESULTS)
    found = judge_results(index, given)
    if found.verdict == "equivalent":
        return found
    bundle.check([bundle.checkpoint])
    checkpoint = bundle.path(bundle.checkpoint)

    def network(blocks: Iterable[Floats], images: int) -> Iterator[Floats]:
        watch.begin("looking for the cause", images, "images")
        given = (block.astype(np.float32) for block in blocks)
        for logits in eager_blocks(checkpoint, given, on_batch=watch.advance):
            yield logits.astype(np.float64)

    try:
        return diagnose(found, index, given, lambda image: load_image(folder, image), network)
    except ImportError as error:
        name = error.name or "torch"
        watch.say(f"selfcheck: the cause is not looked for, {name} {why_not(name, error)}")
        return found


def selfcheck_error(found: Selfcheck) -> NotEquivalent | None:
    """What a failed verdict stands for, with its likely cause."""
    if found.verdict == "equivalent":
        return None
    if found.cause:
        remedy = f"likely cause: {found.cause} ({found.suspects[0].residual:.1%} left unexplained)"
    elif found.within:
        remedy = (
            f"no known mistake explains it, but {found.within}'s bounds hold it: does the app "
            f'compute in {found.within}? Then write "precision": "{found.within}"'
        )
    elif found.suspects:
        near = ", ".join(f"{s.name} ({s.residual:.0%} left)" for s in found.suspects)
        remedy = f"no known mistake explains it; nearest: {near}; see docs/golden.md"
    else:  # outputs are missing or not finite, or torch is
        remedy = "no cause can be named; see docs/golden.md"
    return NotEquivalent(f"the app is not equivalent: {found.reason}", remedy)
