"""Train a network on a data set and make the bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput, UsageError, VggDeployError, os_errors
from vgg_deploy.files import shown, write_text
from vgg_deploy.libraries import import_torch
from vgg_deploy.manifest import MANIFEST, Draft
from vgg_deploy.model.checkpoint import input_spec, output_spec
from vgg_deploy.pipeline import images_file
from vgg_deploy.pipeline.board import Board
from vgg_deploy.pipeline.claim import SKIPPED_FILE, claimed, refuse_inside
from vgg_deploy.pipeline.images_file import copies, inherited, rows_of, write_images
from vgg_deploy.pipeline.last_layer import begun_with
from vgg_deploy.pipeline.leftovers import Clearing, left_behind
from vgg_deploy.pipeline.mirrored import mirroring
from vgg_deploy.pipeline.pictures import draw_training
from vgg_deploy.pipeline.request import Plan, TrainRequest, planned
from vgg_deploy.pipeline.told import Told
from vgg_deploy.pipeline.unseen import seen_before
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.replacing import TRAINING, refuse_existing
from vgg_deploy.report.learning import kept_text
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import Listener, TrainResult

KEY = "request"  # in made_by: digest of everything asked for
MAKER = "made_for"  # in made_by, where the main job trained it


def train_bundle(
    root: Path,
    request: TrainRequest,
    watch: Watcher | None = None,
    *,
    replace: bool = False,
    reuse: bool = False,
    control: RunControl | None = None,
    maker: str | None = None,
) -> Bundle:
    """Train and make the bundle ``root``; the best epoch's weights become its checkpoint.

    With ``reuse`` a bundle whose checkpoint was made by the same request is kept. With ``maker``
    another one is replaced only where the same maker had made it.
    """
    bundle = train_process(
        root, request, watch, replace=replace, reuse=reuse, control=control, maker=maker
    )
    if bundle is None:
        raise UsageError(
            "only train runs on several processes",
            "torchrun --nproc-per-node 2 -m vgg_deploy.train -o BUNDLE",
        )
    return bundle


def train_process(
    root: Path,
    request: TrainRequest,
    watch: Watcher | None = None,
    *,
    replace: bool = False,
    reuse: bool = False,
    control: RunControl | None = None,
    maker: str | None = None,
) -> Bundle | None:
    """``train_bundle`` as one of several processes: rank 0 makes the bundle, others get None."""
    control = control or RunControl()
    import_torch()
    from vgg_deploy.train.distributed import is_main

    watch = (watch if is_main() else None) or Silent()
    begins = is_main() and control.resume == "no"
    if begins and not reuse:  # before the images are decoded
        refuse_inside(root, request.data)
    if is_main() and not reuse:
        refuse_existing(root, replace=replace, make=False, own=(TRAINING,))
    plan = planned(request)
    key = _key(request, plan)
    if reuse and (old := _valid(root, plan.card, key)):
        watch.say(f"train: reused {old.checkpoint.path}, nothing it depends on has changed")
        return old
    if begins and reuse:
        refuse_inside(root, request.data)
    control = dataclasses.replace(control, keep_unfinished="same" if replace else "all")
    if not is_main():
        _trained(plan, request, root, watch, control)
        return None
    if maker:
        _require_own(root, maker)
    with claimed(root, replace=replace):
        data = plan.dataset
        before, folders = inherited(plan.source), seen_before(plan.source)  # it may be replaced
        flips = mirroring(request.options, data.name, data.labels)
        known = copies(data, request.options, before)
        for remark in filter(None, [*data.remarks, *known, flips]):
            watch.say(f"train: {remark}")
        result = _trained(plan, request, root, watch, control)
        marks = {KEY: key, **({MAKER: maker} if maker else {}), **folders}
        if digest := write_images(root, [*rows_of(data, request.options), *before]):
            marks[images_file.KEY] = digest
        return _bundled(root, plan, result, marks, watch, replace=replace)


def _name_skipped(path: Path, skipped: Sequence[str], watch: Watcher) -> None:
    """A line for every image that could not be read; no file where all could."""
    if skipped:
        write_text(path, "".join(f"{line}\n" for line in skipped))
        watch.say(f"train: every skipped image is named in {path}")
        return
    with os_errors(f"remove {path}"):
        path.unlink(missing_ok=True)


def _trained(
    plan: Plan,
    request: TrainRequest,
    root: Path,
    watch: Watcher,
    control: RunControl,
) -> TrainResult:
    from vgg_deploy.model.checkpoint import load_state
    from vgg_deploy.train.loop import Start, train

    there = len(plan.dataset.train)
    images = len(plan.dataset.train.take(request.options.max_images))
    what = f"fine-tune {request.start}" if plan.source else plan.card.spec.arch
    part = f" of {there:,}" if images < there else ""
    watch.say(f"train: {what} on {images:,}{part} images, {plan.dataset.source}")
    start = None
    if plan.source:
        state = load_state(plan.source.path(plan.source.checkpoint))
        state, said = begun_with(state, plan.source.card.labels, plan.card.labels)
        if said:
            watch.say(f"train: {said}")
        start = Start(state)
    folder, skipped = root / TRAINING, plan.dataset.skipped
    with _heard(root, skipped, watch, control) as listener:
        return train(plan.card, plan.dataset, request.options, folder, listener, control, start)


@contextmanager
def _heard(
    root: Path, skipped: Sequence[str], watch: Watcher, control: RunControl
) -> Iterator[Listener]:
    """Who is told how training proceeds: the watcher, and event files where they are wanted."""
    from vgg_deploy.train.distributed import is_main

    if not is_main():
        yield Told(watch)
        return

    def begins() -> None:
        _name_skipped(root / TRAINING / SKIPPED_FILE, skipped, watch)

    left = left_behind(root)
    if not control.tensorboard:
        yield Clearing(left, Told(watch), begins)
        return
    board = Board(root / TRAINING, Told(watch))
    try:
        yield Clearing(left, board, begins)
    finally:
        board.close()


def _bundled(
    root: Path,
    plan: Plan,
    result: TrainResult,
    marks: Mapping[str, str],
    watch: Watcher,
    *,
    replace: bool,
) -> Bundle:
    """Make the bundle; then the run is finished and its checkpoints are not needed."""
    from vgg_deploy.train.store import Store

    card = result.card
    made_by = {**result.made_by, **_kept(result), **marks}
    if plan.source:
        made_by["fine_tuned_from"] = plan.source.checkpoint.sha256
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by=made_by,
    )
    bundle, _ = create_bundle(
        root,
        card,
        draft,
        lambda path: _copy(result.best_path, path),
        replace=replace,
        own=(TRAINING,),
    )
    Store(root / TRAINING).clear()
    watch.say(f"train: the bundle holds {kept_text(list(map(dataclasses.asdict, result.rows)))}")
    draw_training(root / TRAINING, plan.dataset.test, watch)
    return bundle


def _kept(result: TrainResult) -> dict[str, str]:
    """Which epoch the weights are of, and how good it was."""
    best = result.best
    return {
        "best_epoch": str(best.epoch),
        "best_on": "test" if best.validation_accuracy is None else "validation",
        "test_accuracy": f"{best.test_accuracy:.6g}",
    }


def _require_own(root: Path, maker: str) -> None:
    """Refuse to replace a bundle that somebody else made, or one that cannot be read."""
    if not (root / MANIFEST).exists():
        return
    try:
        own = open_bundle(root).checkpoint.made_by.get(MAKER) == maker
    except VggDeployError:
        own = False
    if not own:
        raise RefusedInput(
            f"{root} holds a bundle that vgg-deploy {maker} did not make or cannot read",
            f"choose another folder with -o, or delete {root}",
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _key(request: TrainRequest, plan: Plan) -> str:
    """Digest of all that decides the weights: the request, the images, the start, the versions."""
    parts = [
        jsonio.dumps(_storable(request), indent=None),
        plan.dataset.fingerprint(),
        plan.source.checkpoint.sha256 if plan.source else "",
        json.dumps(versions("vgg-deploy", "numpy", "torch")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _storable(request: TrainRequest) -> TrainRequest:
    """The request with names that JSON can hold: on Linux a path need not be UTF-8."""
    data_dir, start = (path and Path(shown(path)) for path in (request.data_dir, request.start))
    return dataclasses.replace(request, data=shown(request.data), data_dir=data_dir, start=start)


def _valid(root: Path, card: ModelCard, key: str) -> Bundle | None:
    if not (root / MANIFEST).exists():
        return None
    try:
        bundle = open_bundle(root)
        checkpoint = bundle.checkpoint
    except VggDeployError:
        return None
    named = dataclasses.replace(card, dataset=bundle.card.dataset)  # the key tells the content
    same = bundle.card == named and checkpoint.made_by.get(KEY) == key
    return bundle if same and not bundle.problem(checkpoint) else None
