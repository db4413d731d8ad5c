"""Callbacks of a run: checkpoints, metrics, a line of progress."""

import json
import signal
import sys
import threading
import time
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from avlearn.errors import DataError
from avlearn.files import unfinished
from avlearn.interrupts import SIGNALS
from avlearn.terminal import progress_bars, remark
from avlearn.training.checkpoints import BEFORE, BEST, LAST, METRICS_STATE
from avlearn.training.divergence import Divergence


class Stop(BaseException):
    """Ends a training at once; no Exception, that nothing on the way takes it for its own failure."""


class Checkpoints(Callback):
    """Keeps ``last.ckpt`` (to go on from), the one before it, and ``best.ckpt`` (lowest validation loss).

    Where a step is saved and validated, it is saved after its validation: a run that goes on from there has it behind
    it. Files are written aside and renamed: a run that is killed while it writes still has its last one. The first
    Ctrl-C or SIGTERM lets the step end, with its validation, and saves; a second one stops at once.

    Attributes:
        interrupted: number of the first signal that arrived, or 0.
    """

    def __init__(self, folder: Path, every: int, divergence: Divergence):
        self.folder, self.every, self.divergence = folder, every, divergence
        self.best = float("inf")
        self.saved_at = -1
        self.interrupted = 0
        self.stopping = False

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse; a best one that is gone is no longer the best."""
        self.best = state["best"] if (self.folder / BEST).exists() else float("inf")

    def signalled(self, number: int, frame: object) -> None:
        """Handle Ctrl-C and SIGTERM."""
        if self.interrupted:
            raise Stop
        self.interrupted = number

    def on_train_start(self, trainer, module) -> None:
        """Take over from Lightning, which would end without a checkpoint."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self.signalled)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """Save every so many steps, and when the run was interrupted."""
        # Processes hear of Ctrl-C at different times, or one alone does: all have to save, and at one step.
        self.stopping = trainer.strategy.reduce_boolean_decision(bool(self.interrupted), all=False)
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready % trainer.val_check_batch:
            self._save_last(trainer, module)

    def on_validation_end(self, trainer, module) -> None:
        """Save what is best so far, and the step if that is due."""
        loss = float(trainer.callback_metrics.get("val_loss", float("inf")))
        if trainer.strategy.reduce_boolean_decision(loss < self.best, all=False):
            self.divergence.require_finite(trainer, module)
            self.best = loss
            self._save(trainer, BEST)
        self._save_last(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        """Save the last step: what is left to do then is to export."""
        if trainer.global_step != self.saved_at:
            self._keep(trainer, module)

    def _save_last(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        step = trainer.global_step
        if (step % self.every == 0 or self.stopping) and step != self.saved_at:
            self._keep(trainer, module)
        if self.stopping:
            raise Stop

    def _keep(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.divergence.require_finite(trainer, module)
        self.saved_at = trainer.global_step
        self._save(trainer, LAST)

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        # Lightning creates no folder for a path of our own, and every process has to take part.
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        part = unfinished(path)
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                if name == LAST and path.exists():
                    path.replace(self.folder / BEFORE)
                part.replace(path)
        finally:
            if trainer.is_global_zero:
                part.unlink(missing_ok=True)


class MetricsLog(Callback):
    """Appends a row to ``metrics.jsonl`` every so many steps and after each validation; None for what is no number.

    Its state holds all rows, so that a run that goes on from a checkpoint has what belongs to it.

    Args:
        path: of the file.
        every: steps from one row to the next.
        max_bad: share of all files that may be unreadable; the run stops past it.
        left_out: clips that could not be read before the training began: counted in the rows.
    """

    state_key = METRICS_STATE

    def __init__(self, path: Path, every: int, max_bad: float, left_out: int = 0):
        self.path, self.every, self.max_bad, self.left_out = path, every, max_bad, left_out
        self.skipped: list[str] = []
        self.seen = 0
        self.rows = ""

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"skipped": list(self.skipped), "seen": self.seen, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.skipped, self.seen, self.rows = list(state["skipped"]), state["seen"], state["rows"]

    def _write(self, trainer: lightning.Trainer, row: dict[str, float]) -> None:
        if trainer.is_global_zero:
            numbers = {key: value if isfinite(value) else None for key, value in row.items()}
            line = json.dumps({"step": trainer.global_step, **numbers}, allow_nan=False) + "\n"
            self.rows += line
            with self.path.open("a") as file:
                file.write(line)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """A row of what the step logged."""
        step = trainer.global_step
        if step % self.every == 0:
            values = {k: round(float(v), 6) for k, v in trainer.callback_metrics.items()}
            values = {k: v for k, v in values.items() if not k.startswith("val_")}
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._write(trainer, {**values, "lr": rate, "skipped": self.left_out + len(self.skipped)})

    def on_validation_end(self, trainer, module) -> None:
        """A row of the validation's metrics."""
        values = trainer.callback_metrics.items()
        self._write(trainer, {k: round(float(v), 6) for k, v in values if k.startswith("val_")})

    def count(self, good: int, skipped: list[str]) -> bool:
        """Note a batch; False when too large a share of all files was bad so far."""
        self.seen += good + len(skipped)
        self.skipped += skipped
        return len(self.skipped) <= max(self.max_bad * self.seen, 0)


class ProgressLine(Callback):
    """Steps, loss, clips a second and the time left; a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, clips_per_step: int, every: int):
        self.clips_per_step, self.every = clips_per_step, every
        self.closing = ExitStack()

    def on_train_start(self, trainer, module) -> None:
        """Start the clock."""
        self.first, self.began = trainer.global_step, time.monotonic()
        self.bar = self.closing.enter_context(progress_bars())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """Say where it stands."""
        step, total = trainer.global_step, trainer.max_steps
        if not trainer.is_global_zero or (step % self.every and step != total):
            return
        seconds = time.monotonic() - self.began
        per_step = seconds / max(step - self.first, 1)
        loss = float(trainer.callback_metrics.get("loss", float("nan")))
        said = f"step {step}/{total}  loss {loss:.3f}  {self.clips_per_step / per_step:.0f} clips/s"
        self.bar("training", step, total, said)
        if not sys.stderr.isatty():
            left = int((total - step) * per_step)
            remark(f"{said}  {left // 60}:{left % 60:02d} left")

    def on_validation_end(self, trainer, module) -> None:
        """Say what the validation clips gave."""
        if trainer.is_global_zero:
            values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
            said = "  ".join(f"{key.removeprefix('val_')} {value:.3f}" for key, value in values.items())
            remark(f"step {trainer.global_step}/{trainer.max_steps}  validation: {said}")

    def on_train_end(self, trainer, module) -> None:
        """Take the bar away."""
        self.closing.close()

    def on_exception(self, trainer, module, exception) -> None:
        """Take the bar away before the error is printed."""
        self.closing.close()


class SkipBadFiles(Callback):
    """Counts what the loader skipped; stops the run past the share that the recipe allows, or at once.

    It is here that a clip ends the run: an error that came through a loader's process is a traceback.
    """

    def __init__(self, metrics: MetricsLog, allowed: bool):
        self.metrics, self.allowed = metrics, allowed

    def on_validation_batch_start(self, trainer, module, batch, batch_index, dataloader_index=0) -> None:
        """Stop where no clip may be skipped."""
        self._allow(batch)

    def _allow(self, batch: dict[str, Any]) -> None:
        if batch.get("skipped") and not self.allowed:
            raise DataError(f"{batch['skipped'][0]} (data.bad_files=skip leaves such clips out)")

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
        """Name what was skipped."""
        self._allow(batch)
        skipped = batch.get("skipped", [])
        good = len(next((values for values in batch.values() if isinstance(values, Tensor)), ()))
        for reason in skipped:
            print(f"skipped {reason}", file=sys.stderr)
        if not self.metrics.count(good, skipped) or ("skipped" in batch and not good):
            raise DataError(
                f"{len(self.metrics.skipped)} of {self.metrics.seen} clips could not be read "
                f"(data.max_bad allows a share of {self.metrics.max_bad:g}); the last: {skipped[-1]}"
            )
