"""What a run leaves in its folder while it trains: checkpoints, figures, a line of progress."""

import json
import signal
import sys
import threading
import time
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Checkpoints(Callback):
    """Keeps ``last.ckpt`` (to go on from) and ``best.ckpt`` (lowest validation loss).

    Files are written aside and renamed: a run that is killed while it writes still has its last one.
    The first Ctrl-C lets the step end and saves, so that the run resumes to the bit; a second one stops
    at once.
    """

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every
        self.best = float("inf")
        self.saved_at = -1
        self.interrupted = False

    def state_dict(self) -> dict:
        """What resuming needs."""
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        """The inverse."""
        self.best = state["best"]

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        # Lightning creates no folder for a path of our own, and every process has to take part.
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{name}.part"
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                part.replace(self.folder / name)
        finally:
            if trainer.is_global_zero:
                part.unlink(missing_ok=True)

    def on_train_start(self, trainer, module) -> None:
        """Take over Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGINT, self._interrupt)

    def on_train_end(self, trainer, module) -> None:
        """Give Ctrl-C back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.handler)

    def _interrupt(self, number: int, frame: object) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """Save every so many steps, and when the run was interrupted."""
        step = trainer.global_step
        # Processes hear of Ctrl-C at different times, or one alone does: all have to save, and at one step.
        stop = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if (step % self.every == 0 or stop) and step != self.saved_at:
            self.saved_at = step
            self._save(trainer, "last.ckpt")
        if stop:
            self.interrupted = trainer.should_stop = True

    def on_validation_end(self, trainer, module) -> None:
        """Save what is best so far."""
        loss = float(trainer.callback_metrics.get("val_loss", float("inf")))
        if not trainer.sanity_checking and loss < self.best:
            self.best = loss
            self._save(trainer, "best.ckpt")


class Figures(Callback):
    """Appends a row to ``metrics.jsonl`` every so many steps and after each validation.

    Also stops the run when too many files could not be read.
    """

    def __init__(self, path: Path, every: int, max_bad: float):
        self.path, self.every, self.max_bad = path, every, max_bad
        self.skipped: list[str] = []
        self.seen = 0

    def state_dict(self) -> dict:
        """What resuming needs."""
        return {"skipped": list(self.skipped), "seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        """The inverse."""
        self.skipped, self.seen = list(state["skipped"]), state["seen"]

    def _write(self, trainer: lightning.Trainer, row: dict) -> None:
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": trainer.global_step, **row}) + "\n")

    def on_train_start(self, trainer, module) -> None:
        """Drop rows past the step that a resumed run goes on from: they will come again."""
        if trainer.is_global_zero and self.path.exists():
            rows = [json.loads(line) for line in self.path.read_text().splitlines() if line]
            kept = [row for row in rows if row["step"] <= trainer.global_step]
            self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """A row of what the step logged."""
        step = trainer.global_step
        if step % self.every == 0:
            values = {k: round(float(v), 6) for k, v in trainer.callback_metrics.items()}
            values = {k: v for k, v in values.items() if not k.startswith("val_")}
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._write(trainer, {**values, "lr": rate, "skipped": len(self.skipped)})

    def on_validation_end(self, trainer, module) -> None:
        """A row of the validation's figures."""
        if not trainer.sanity_checking:
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
        self.bar: Progress | None = None

    def on_train_start(self, trainer, module) -> None:
        """Start the clock."""
        self.first, self.began = trainer.global_step, time.monotonic()
        if sys.stderr.isatty() and trainer.is_global_zero:
            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(),
            )  # fmt: skip
            self.bar.start()
            self.row = self.bar.add_task("training", total=trainer.max_steps, said="")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """Say where it stands."""
        step, total = trainer.global_step, trainer.max_steps
        if not trainer.is_global_zero or (step % self.every and step != total):
            return
        seconds = time.monotonic() - self.began
        per_step = seconds / max(step - self.first, 1)
        loss = float(trainer.callback_metrics.get("loss", float("nan")))
        said = f"step {step}/{total}  loss {loss:.3f}  {self.clips_per_step / per_step:.0f} clips/s"
        if self.bar:
            self.bar.update(self.row, completed=step, said=said)
        else:
            left = int((total - step) * per_step)
            print(f"{said}  {left // 60}:{left % 60:02d} left", file=sys.stderr, flush=True)

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, trainer, module) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer, module, exception) -> None:
        """Take the bar away before the error is printed."""
        self._stop()
