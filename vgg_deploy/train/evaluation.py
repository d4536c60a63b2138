"""Which classes the best epoch takes for which: ``evaluation.json``."""

from __future__ import annotations

from pathlib import Path

import torch

from vgg_deploy import jsonio
from vgg_deploy.train.epoch import Classified
from vgg_deploy.train.outcome import EVALUATION_FILE, Evaluation, Mistake
from vgg_deploy.train.step import Images

_MOST = 24  # mistakes that are kept


def save_evaluation(
    folder: Path, labels: tuple[str, ...], test: Images, tested: Classified
) -> None:
    """Write the confusion matrix and the mistakes the network was most sure of."""
    truth = test.labels.cpu()
    matrix = torch.zeros(len(labels), len(labels), dtype=torch.int64)
    matrix.index_put_((truth, tested.predicted), torch.ones_like(truth), accumulate=True)
    wrong = (tested.predicted != truth).nonzero().flatten()
    order = tested.probability[wrong].argsort(descending=True, stable=True)
    worst = tuple(
        Mistake(
            index=index,
            truth=int(truth[index]),
            predicted=int(tested.predicted[index]),
            probability=float(tested.probability[index]),
            file=test.files[index] if test.files else "",
        )
        for index in wrong[order][:_MOST].tolist()
    )
    found = Evaluation(
        labels=labels,
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        mistakes=len(wrong),
        worst=worst,
    )
    jsonio.save(folder / EVALUATION_FILE, found)
