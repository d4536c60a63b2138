"""What the training loop tells, told to whoever watches."""

from __future__ import annotations

from vgg_deploy.errors import counted
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.train.outcome import EpochRow, RunPlan


class Told:
    """Tells a watcher what the training loop tells a listener."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch
        self._done = 0

    def on_start(self, plan: RunPlan, /) -> None:
        """Say what is going to happen."""
        frozen = plan.parameters - plan.trained_parameters
        self._watch.say(
            f"train: {plan.parameters:,} parameters{f', {frozen:,} of them frozen' * (frozen > 0)} "
            f"on {plan.device} in {plan.precision}, {counted(plan.epochs, 'epoch')}, "
            f"batch {plan.batch}"
            + f" in {plan.accumulate} pieces" * (plan.accumulate > 1)
            + f" on {plan.processes} processes" * (plan.processes > 1)
        )
        if plan.validation_images:
            self._watch.say(
                "train: the best epoch is chosen on "
                f"{counted(plan.validation_images, 'image')} held out"
            )
        if plan.ema:
            self._watch.say(
                f"train: averages of the weights, decay {plan.ema} per step, are tested and saved"
            )
        if plan.compiled:
            self._watch.say("train: the first step waits until torch.compile has made its kernels")
        self._watch.begin("train", plan.epochs * plan.train_images, "examples")
        self._watch.advance(plan.done_images)
        self._done = plan.done_images

    def on_note(self, text: str, /) -> None:
        """A line."""
        self._watch.say(f"train: {text}")

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """Move the bar."""
        del total_images, loss
        self._watch.advance(done_images - self._done)
        self._done = done_images

    def on_epoch(self, row: EpochRow, /) -> None:
        """A line per epoch."""
        held = row.validation_accuracy
        self._watch.say(
            f"train: epoch {row.epoch}, loss {row.loss:.3f}, train {row.train_accuracy:.3f}, "
            + (f"validation {held:.4f}, " if held is not None else "")
            + f"test {row.test_accuracy:.4f}, {row.examples_per_second:,.0f} examples/s"
        )
