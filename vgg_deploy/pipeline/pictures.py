"""Pictures of a finished training run, into its folder."""

from __future__ import annotations

import json
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.data.dataset import Split
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.report.learning import kept_text
from vgg_deploy.report.training_pictures import (
    confusion_png,
    curves_png,
    drawn_names,
    mistakes_png,
)
from vgg_deploy.train.outcome import EVALUATION_FILE, METRICS_FILE, Evaluation

CURVES, CONFUSION, MISTAKES = "curves.png", "confusion.png", "mistakes.png"


def draw_training(folder: Path, test: Split, watch: Watcher) -> None:
    """Learning curves, confusion matrix and worst mistakes; without matplotlib a line says so."""
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    drawn = [CURVES, CONFUSION]
    found = jsonio.load(Evaluation, folder / EVALUATION_FILE)
    metrics = [json.loads(line) for line in lines]
    images = sum(map(sum, found.confusion))
    kept = kept_text(metrics).partition(",")[0]
    counted = f"{found.mistakes:,} mistakes in {images:,} test images"
    title = f"{kept.capitalize()}, {counted}" if kept else counted
    try:
        curves_png(folder / CURVES, metrics)
        names = drawn_names(found.labels)
        confusion_png(folder / CONFUSION, names, found.confusion, title)
        if found.worst:
            captions = [
                (names[m.truth], f"{names[m.predicted]}, {m.probability:.0%}") for m in found.worst
            ]
            pixels = test.images[[m.index for m in found.worst]]
            files = [m.file for m in found.worst]
            surest = f"{title}; the surest of them"
            mistakes_png(folder / MISTAKES, pixels, captions, surest, files)
            drawn.append(MISTAKES)
    except BackendNotAvailable as error:
        watch.say(f"train: no pictures: {error.cause}; {error.remedy}")
        return
    if lost := [name for name, drawn in zip(found.labels, names, strict=True) if name != drawn]:
        watch.say(f"train: no font here has the signs of {lost[0]!r}; the pictures show its number")
    watch.say(f"train: pictures in {folder}: {', '.join(drawn)}")
