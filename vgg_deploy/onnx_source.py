"""An ONNX file of a bundle that another one is made from: whole, valid, and what was exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.artifact import Artifact
from vgg_deploy.errors import RefusedInput, first_line, os_errors
from vgg_deploy.files import word

if TYPE_CHECKING:
    import onnx


def load_source(path: Path, artifact: Artifact) -> onnx.ModelProto:
    """The model in a file of ``artifact``, weights included.

    Raises ``RefusedInput`` for what onnx's own full check refuses, and for other inputs or outputs
    than the manifest's: a digest that fits says nothing of that.
    """
    import onnx

    remake = f"remove it and make it again: vgg-deploy export {word(path.parent)} --format onnx"
    with os_errors(f"read {path}"):
        try:  # before it is loaded: the checker reads a copy of its own
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise RefusedInput(f"{path} is not valid ONNX: {first_line(error)}", remake) from error
        model = onnx.load(str(path))
    given, wanted = ([value.name for value in of] for of in (model.graph.input, model.graph.output))
    if (given, wanted) != ([artifact.input.name], [artifact.output.name]):
        raise RefusedInput(
            f"{path} takes {', '.join(given) or 'nothing'} and gives "
            f"{', '.join(wanted) or 'nothing'}, instead of {artifact.input.name} and "
            f"{artifact.output.name}",
            remake,
        )
    return model
