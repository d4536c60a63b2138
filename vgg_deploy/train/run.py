"""One run in progress: its epochs, and when it saves and stops."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from vgg_deploy import jsonio
from vgg_deploy.errors import Interrupted, ResourceLimit, TrainingDiverged
from vgg_deploy.files import atomic, sha256_of, write_text
from vgg_deploy.model.checkpoint import save_checkpoint
from vgg_deploy.train import best
from vgg_deploy.train.epoch import (
    Classified,
    Progress,
    Steps,
    evaluate,
    require_finite,
    train_epoch,
)
from vgg_deploy.train.evaluation import save_evaluation
from vgg_deploy.train.identity import Identity, changes, exact_context
from vgg_deploy.train.meter import Meter, StepFigures
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import BEST_FILE, LAST_FILE, METRICS_FILE, EpochRow, Listener, best_of
from vgg_deploy.train.profile import StepProfiler
from vgg_deploy.train.standardised import plain_state
from vgg_deploy.train.state import SCHEMA_VERSION, TrainState, prepare, tensors_of
from vgg_deploy.train.step import Images, Trainer
from vgg_deploy.train.stop import StopWish
from vgg_deploy.train.store import Store


@dataclass(kw_only=True)
class Run:
    """A run between its start and its end."""

    trainer: Trainer
    data: Images
    test: Images
    validation: Images | None
    identity: Identity
    folder: Path
    store: Store
    listener: Listener
    control: RunControl
    stop: StopWish
    progress: Progress = field(default_factory=Progress)
    rows: list[EpochRow] = field(default_factory=list)
    best_sha256: str | None = None
    saved_at: float = field(default_factory=time.monotonic)
    saved_step: int = 0  # of the newest checkpoint

    def __post_init__(self) -> None:
        self._meter = Meter(self.trainer.device, self.trainer.world, lambda: self.stop.overdue)
        self._steps = Steps(
            stop=self._wishes_to_stop, arrived=self._arrived, saves=self._saves, after=self._after
        )
        self.contexts: tuple[Mapping[str, str], ...] = (exact_context(self.trainer),)
        self._begun = 0  # the step that this process began after
        self._profiler = None
        if self.control.profile:
            self._profiler = StepProfiler(
                self.trainer,
                self.folder,
                self.listener.on_note,
                compiled=self.identity.options.compile,
            )

    @property
    def done_images(self) -> int:
        """Images of all epochs so far."""
        return self.progress.epoch * len(self.data) + self.progress.images

    def take(self, state: TrainState) -> None:
        """Go on from a checkpoint."""
        self.progress, self.rows = state.progress, list(state.rows)
        self.best_sha256, self.saved_step = state.best_sha256, state.progress.step
        self._begun = state.progress.step
        card = replace(self.identity.card, dataset=state.identity.card.dataset)
        self.identity = replace(self.identity, card=card)  # its best epoch has the same
        self.accumulate(state.accumulate)
        self.listener.on_note(f"resumed {self._place()}")
        self._continue(state.contexts)

    def _continue(self, before: tuple[Mapping[str, str], ...]) -> None:
        """Note what the bits of the steps to come depend on, and say where it has changed."""
        before = before or self.contexts
        changed = changes(before[-1], self.contexts[-1])
        if not changed or self.progress.epoch == self.trainer.epochs:
            self.contexts = before
            return
        self.contexts = (*before, self.contexts[-1])
        self.listener.on_note(f"{changed}: do not expect the bits of a run that was left alone")

    def _place(self) -> str:
        if self.progress.epoch == self.trainer.epochs:
            return "after the last epoch"
        return f"in epoch {self.progress.epoch + 1} after step {self.progress.step}"

    def accumulate(self, pieces: int) -> None:
        """Split every batch from now on."""
        self.trainer = replace(self.trainer, accumulate=pieces)

    def synchronise(self) -> None:
        """Give all processes rank 0's weights, optimiser and position."""
        world = self.trainer.world
        if world.size == 1:
            return
        text = world.same_text(jsonio.dumps(self._state()) if world.main else "")
        state = jsonio.loads(TrainState, text, source="rank 0")
        if not world.main and state.progress.step:
            self.take(state)
            prepare(self.trainer)
        tensors = tensors_of(self.trainer)
        world.share([tensors[name] for name in sorted(tensors)])

    def epochs(self) -> None:
        """Train until the last epoch is done."""
        if self.rows and self.progress.batches == 0:
            self._write_epoch(None)  # the files of an epoch whose checkpoint came first
        while self.progress.epoch < self.trainer.epochs:
            try:
                row, tested = self._epoch()
            except TrainingDiverged as error:
                raise self._with_checkpoint(error) from error
            self.rows.append(row)
            self.progress = self.progress.next_epoch()
            self._save()  # before the files that follow from it
            self._write_epoch(tested)
            self.listener.on_epoch(row)

    def _epoch(self) -> tuple[EpochRow, Classified]:
        start = time.perf_counter() - self.progress.seconds
        trainer = self.trainer
        train_epoch(trainer, self.data, self.progress, self._meter, self._steps)
        if self._profiler:
            last = self.progress.epoch + 1 == trainer.epochs
            self._profiler.finish(self.progress.batches, last=last)
        _require_finite_weights(trainer, self.progress.epoch)
        trainer.world.share(list(trainer.deployed.buffers()))  # batch norm as rank 0 saw it
        tested = self._evaluated(self.test, "test loss")
        held = self._evaluated(self.validation, "validation loss") if self.validation else None
        done = self.progress
        row = EpochRow(
            epoch=done.epoch + 1,
            loss=done.loss / done.images,
            train_accuracy=done.hits / done.images,
            test_loss=tested.loss,
            test_accuracy=tested.accuracy,
            examples_per_second=done.images / done.seconds,
            seconds=time.perf_counter() - start,
            lr=done.lr,
            validation_loss=held.loss if held else None,
            validation_accuracy=held.accuracy if held else None,
        )
        return row, tested

    def _evaluated(self, images: Images, what: str) -> Classified:
        trainer = self.trainer
        found = evaluate(
            trainer.deployed, images, trainer.preprocessing, trainer.world, self._between
        )
        require_finite(found.loss, what, f"after epoch {self.progress.epoch + 1}")
        return found

    def _wishes_to_stop(self) -> bool:
        return bool(self.stop)

    def _arrived(self, figures: StepFigures) -> None:
        total = self.trainer.epochs * len(self.data)
        self.listener.on_step(self.done_images, total, figures.loss / figures.images)

    def _after(self, stopping: bool) -> None:
        """Between two steps: save when it is time, stop when that is wanted."""
        if self._profiler:
            self._profiler.step()
        if self._saves(stopping):
            self._save()
        if stopping:
            raise self.stopped()

    def _saves(self, stopping: bool) -> bool:
        return stopping or time.monotonic() - self.saved_at >= 60 * self.control.save_every

    def _between(self) -> None:
        """Between two chunks of test images: as between two steps, but nobody is asked.

        Of several processes none may stop alone; that the next step does. One that has made no
        step finds no time too short to test in, or it would never get further.
        """
        stopping = bool(self.stop)
        if self.progress.step == self._begun and not self.stop.signal:
            stopping = False
        if self.saved_step != self.progress.step and self._saves(stopping):
            self._save()
        if stopping and self.trainer.world.size == 1:
            raise self.stopped()

    def _save(self) -> None:
        """A checkpoint of this moment, by rank 0 alone."""
        for figures in self._meter.drain():
            self.progress.add(figures)
            self._arrived(figures)
        if self.trainer.world.main:
            self.store.save(self._state(), tensors_of(self.trainer))
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def _state(self) -> TrainState:
        return TrainState(
            schema_version=SCHEMA_VERSION,
            identity=self.identity,
            contexts=self.contexts,
            progress=self.progress,
            accumulate=self.trainer.accumulate,
            rows=tuple(self.rows),
            best_sha256=self.best_sha256,
        )

    def _write_epoch(self, tested: Classified | None) -> None:
        """The files that speak of the epoch that was just done; metrics last."""
        rows = tuple(self.rows)
        if best_of(rows) is not rows[-1]:
            tested = None  # evaluation.json stays that of the best
        elif tested is None:
            tested = self._evaluated(self.test, "test loss")  # by all processes together
        if not self.trainer.world.main:
            return
        state = plain_state(self.trainer.deployed)
        if tested:
            best.keep(self.folder, self.store.folder, self.best_sha256)
        for name in [LAST_FILE, BEST_FILE] if tested else [LAST_FILE]:
            with atomic(self.folder / name) as partial:
                save_checkpoint(partial, self.identity.card, state)
        if tested:
            save_evaluation(self.folder, self.identity.card.labels, self.test, tested)
            self.best_sha256 = sha256_of(self.folder / BEST_FILE)
        lines = (jsonio.dumps(row, indent=None) + "\n" for row in rows)
        write_text(self.folder / METRICS_FILE, "".join(lines))

    def stopped(self) -> Exception:
        """The error that a run ends with which was asked to stop."""
        where = self._place()
        remedy = "a checkpoint was saved: run it again to go on"
        if self.control.again:
            remedy = f"a checkpoint was saved; go on with: {self.control.again}"
        elif self.control.resume != "may":
            remedy += " with --resume"
        if self.stop.timed_out and not self.stop.signal:
            minutes = self.control.max_minutes
            return ResourceLimit(f"the {minutes:g} minutes ran out {where}", remedy)
        return Interrupted(f"stopped by {self.stop.signal or 'another process'} {where}", remedy)

    def _with_checkpoint(self, error: TrainingDiverged) -> TrainingDiverged:
        """The same error with what to do about it in this run."""
        remedy = f"lower --lr (it was {self.trainer.peak_lr:g})"
        if self.control.resume == "may":  # a job that has neither option
            remedy = f"vgg-deploy train takes a lower --lr (it was {self.trainer.peak_lr:g})"
        elif self.store.found():
            remedy += " and start afresh with --replace"
        if self.rows:
            remedy += f"; the weights of epoch {self.rows[-1].epoch} are {self.folder / LAST_FILE}"
        return TrainingDiverged(error.cause, remedy)


def _require_finite_weights(trainer: Trainer, epoch: int) -> None:
    """The last update of an epoch is seen by no loss, so the weights themselves are looked at."""
    for name, value in trainer.model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            require_finite(
                float("nan"), f"weights of {name}", f"in the last step of epoch {epoch + 1}"
            )
