"""TorchScript: what C++ and older applications load."""

from __future__ import annotations

from pathlib import Path

from vgg_deploy.environment import versions
from vgg_deploy.export.guard import quiet
from vgg_deploy.export.source import ExportOptions, Source

# It works, and the user cannot act on it: a FutureWarning, in older torch a DeprecationWarning.
_DEPRECATED = r"`torch\.jit\.\w+` is deprecated"
# Of local_response_norm's test for an empty input; no batch is.
_EMPTY_INPUT = "Converting a tensor to a Python boolean"


def made_by(_options: ExportOptions) -> dict[str, str]:
    """Versions and options that shape the file."""
    return versions("vgg-deploy", "torch") | {"method": "trace, freeze"}


def write(source: Source, path: Path) -> None:
    """Trace, check the trace, freeze, save with the card, labels and preprocessing inside.

    The file is saved before anything like ``optimize_for_inference`` touches the module: that
    one changes it in place, and what is saved afterwards does not load.
    """
    import torch
    from torch.jit._trace import TracerWarning

    model, example = source.model(), source.example()
    expected = {_DEPRECATED: Warning, _EMPTY_INPUT: TracerWarning}
    with quiet(warning=expected), torch.no_grad():
        traced = torch.jit.trace(model, example, check_trace=True)
        frozen = torch.jit.freeze(traced)
        del model, traced
        torch.jit.save(frozen, str(path), _extra_files=source.texts())
