"""An adaptation from its files to its report: it takes the time that it is given, and goes on where it was stopped."""

import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from avlearn.adapt.finish import finish
from avlearn.adapt.folds import FOLDS, LEAST, assign, least_seconds, recipe, write_lists
from avlearn.adapt.footage import COPY, TRUE_OFFSET, Delays, Stretch, delays, stretches, why_not
from avlearn.adapt.judge import JUDGE, Judged
from avlearn.adapt.progress import Progress
from avlearn.adapt.report import AdaptResult
from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.run_many import Failure, InferenceOptions, Tool, run_many
from avlearn.data.journal import Journal
from avlearn.data.manifest import Entry, Row, read_manifest
from avlearn.data.scan import scan
from avlearn.device import choose_device, choose_precision
from avlearn.errors import AvlearnError, DataError, ModelError, OutputError
from avlearn.files import check_folder
from avlearn.lock import locked
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.named import model_folder
from avlearn.terminal import progress_line, remark
from avlearn.training.run import pretrain

# The share of the time that is gone when a stage ends.
_UNTIL = {"offsets": 0.2, "copies": 0.28, "0": 0.44, "1": 0.6, "all": 0.76, "judge": 0.97}
ALL = "all"  # of the training on all stretches


def adapt(
    entries: Sequence[Entry],
    out: Path,
    *,
    base: str = "default",
    minutes: float = 10.0,
    seed: int = 0,
    device: str = "auto",
    precision: str = "32",
    workers: int | None = None,
) -> AdaptResult:
    """Go on with a model's training on files, judge it on those that it had not seen, and write what is better.

    Two trainings see a half of the files each, and judge the other half; a third one sees all, and is read by what
    these two tell. An adaptation that was stopped goes on.

    Args:
        entries: the files.
        out: gets ``model/``, ``folds/``, ``runs/``, ``report.json`` and ``report.html``.
        base: name or path of the model to begin with.
        minutes: of the clock that it takes, about; files may not all be looked at then.
        seed: decides everything but what fits into the time.
        device: as for `avlearn.load`; of several GPUs the first.
        precision: in which models judge, as for `avlearn.load`; trainings are in 32 bits.
        workers: processes that look at files; all cores by default.

    Raises:
        AvlearnError: there is no such device or precision here, or it is another GPU than the first.
        DataError: there is too little that can be learned from.
        ModelError: the base has no common space.
        OutputError: ``out`` holds another or a finished adaptation, is in use, or cannot be written.
    """
    out = Path(out)
    if (out / "report.json").exists():
        raise OutputError(f"{out} has a finished adaptation: give another folder with --output")
    place = choose_device(device)
    if place.index:
        raise AvlearnError(f"adapt trains on the first GPU, not on {device}: CUDA_VISIBLE_DEVICES says which that is")
    choose_precision(precision, place)
    model = load(base)
    if not model.config.common_space:
        raise ModelError(f"{base} has no common space of video and audio: its objective taught none")
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    folder = str(model_folder(base).resolve())
    asked = {"--model": folder, "--seed": seed, "files": [str(Path(entry.path).absolute()) for entry in entries]}
    with locked(out / ".lock"):
        progress = Progress(out / "adapt.json", asked, minutes)
        run = _Adaptation(out, base, folder, model, progress, seed, device, precision, workers)
        return run.run(entries)


class _Adaptation:
    """One adaptation; see `adapt`."""

    def __init__(
        self, out: Path, base: str, folder: str, model: AudioVisual, progress: Progress, seed: int, device: str,
        precision: str, workers: int | None,
    ):  # fmt: skip
        self.out, self.base, self.folder, self.model = out, base, folder, model
        self.progress, self.seed, self.workers = progress, seed, workers
        self.device, self.precision = device, precision
        self.least = least_seconds(model.config, model.step)

    def run(self, entries: Sequence[Entry]) -> AdaptResult:
        """All stages."""
        rows, unused = self._look(entries)
        if "copies" not in self.progress.done:
            self._copy(rows, self._delays(rows))
        kept = self.progress.kept
        parts = [Stretch(**{**part, "copy": self.out / part["copy"]}) for part in kept["stretches"]]
        unused += [(path, reason) for path, reason in kept["failed"]]
        folds, by_file = assign(parts, self.seed)
        steps = {}
        for name in (*map(str, range(FOLDS)), ALL):
            steps[name] = self._train(name, [p for p, f in zip(parts, folds, strict=True) if str(f) != name])
        judged = self._judge(parts, folds)
        result = finish(
            self.out, self.base, self.folder, parts, folds, judged, by_file=by_file, unused=unused,
            notes=kept["notes"], steps=steps, minutes=self.progress.gone,
        )  # fmt: skip
        for made in ("decoded", "copies"):
            shutil.rmtree(self.out / made, ignore_errors=True)
        return result

    def _look(self, entries: Sequence[Entry]) -> tuple[list[Row], list[tuple[str, str]]]:
        """Rows of files that can be learned from, and path and reason of the others."""
        manifest = self.out / "files.parquet"
        if "look" in self.progress.done and manifest.exists():
            rows: Sequence[Row] = read_manifest(manifest)
        else:
            with progress_line("looking into files") as say:
                rows = scan(entries, manifest, workers=self.workers, progress=say)
            self.progress.finish("look")
        reasons = [why_not(row, self.least) for row in rows]
        usable = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
        unused = [(str(row.path), reason) for row, reason in zip(rows, reasons, strict=True) if reason]
        if not usable:
            raise DataError(f"none of {len(rows)} files can be used; {unused[0][0]}: {unused[0][1]}")
        # In a random order: the clock may not allow all of them.
        return [usable[k] for k in np.random.default_rng(self.seed).permutation(len(usable))], unused

    def _delays(self, rows: Sequence[Row]) -> Delays:
        """Ask experts by how much the audio of each file is off, as long as there is time."""
        with closing(Journal(self.out / ".offsets.journal")) as journal:
            answers = {r["file"]: ExpertAnswer(r["expert"], r["best"], r["confidence"], r["reason"])
                       for r in journal.records}  # fmt: skip
            left = [row for row in rows if str(row.path) not in answers]
            with closing(self._many(TRUE_OFFSET, "asking experts", left, "offsets")) as results:
                for row, found in results:
                    told = ExpertAnswer("", None, 0.0, found.reason) if isinstance(found, Failure) else found
                    answers[str(row.path)] = told
                    journal.add({"file": str(row.path), "expert": told.expert, "best": told.best,
                                 "confidence": told.confidence, "reason": told.reason})  # fmt: skip
        return delays(answers)

    def _copy(self, rows: Sequence[Row], known: Delays) -> None:
        """Write small copies of stretches, their audio put right."""
        copies = self.out / "copies"
        copies.mkdir(exist_ok=True)
        planned = stretches(rows, known, copies, self.least, self.seed)
        of = {str(row.path): [part for part in planned if part.file == str(row.path)] for row in rows}
        short = f"shorter than {self.least:.1f} s once its audio is moved"
        failed = [(str(row.path), short) for row in rows if not of[str(row.path)]]
        rows = [row for row in rows if of[str(row.path)]]
        config = self.model.config
        each = [
            {"parts": of[str(row.path)], "origin": row.start, "fps": config.fps, "size": config.size,
             "sample_rate": config.sample_rate}
            for row in rows
        ]  # fmt: skip
        copied: list[Stretch] = []
        asked = len(rows) + len(failed)
        enough = lambda: len(copied) >= 2 * LEAST  # noqa: E731
        with closing(self._many(COPY, "copying", rows, "copies", each, enough)) as results:
            for row, found in results:
                if isinstance(found, Failure):
                    failed.append((str(row.path), found.reason))
                else:
                    copied += of[str(row.path)]
        copied.sort(key=lambda part: (part.file, part.start))
        assign(copied, self.seed)  # or there are too few
        files = list(dict.fromkeys(part.file for part in copied))
        notes = known.lines(files)
        if len(files) + len(failed) < asked:
            notes.append(f"by the clock: {len(files) + len(failed)} of {asked} files; more --minutes, more files")
        stored = [{**asdict(part), "copy": str(part.copy.relative_to(self.out))} for part in copied]
        self.progress.finish("copies", stretches=stored, failed=failed, notes=notes)

    def _many(
        self,
        tool: Tool,
        label: str,
        rows: Sequence[Any],
        stage: str,
        each: Sequence[dict[str, Any]] | None = None,
        enough: Callable[[], bool] = lambda: True,
    ) -> Generator[tuple[Any, Any], None, None]:
        """A tool on the files of rows, until the stage's time is over and there is enough.

        Yields:
            A row and its result.
        """
        until = time.monotonic() + self.progress.left(_UNTIL[stage])
        if not rows:
            return
        sources = [row.copy if isinstance(row, Stretch) else row.source for row in rows]
        on_accelerator = tool is JUDGE and choose_device(self.device).type != "cpu"  # one process is enough for it
        workers = self.workers or (1 if on_accelerator else None)
        results = run_many(tool, sources, InferenceOptions(), each=each, workers=workers)
        with progress_line(label) as say, closing(results):
            for done, (number, result) in enumerate(results, 1):
                say(done, len(rows))
                yield rows[number], result
                if time.monotonic() > until and enough():
                    return

    def _train(self, name: str, parts: Sequence[Stretch]) -> int:
        """Train on stretches; the step whose weights were kept, or the last one."""
        folder = self.out / "runs" / name
        if name not in self.progress.done:
            what = "all stretches" if name == ALL else f"{len(parts)} stretches, for {name} to be judged"
            remark(f"== training on {what}")
            config, step = self.model.config, self.model.step
            lists = write_lists(parts, self.out / "lists" / name, self.least, self.seed)
            accelerator = "cpu" if self.device == "cpu" else "auto"
            made = recipe(self.folder, config, step, lists, self.out / "decoded", self.seed, accelerator)
            pieces = len(read_manifest(lists[0]))
            batch = min(made.trainer.batch_size, pieces)
            made = made.model_copy(update={"trainer": made.trainer.model_copy(update={"batch_size": batch})})
            pretrain(made, folder, resume=folder.exists(), seconds=self.progress.left(_UNTIL[name]))
            self.progress.finish(name)
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        return int(rows[-1]["step"])

    def _judge(self, parts: Sequence[Stretch], folds: Sequence[int]) -> dict[int, Judged]:
        """Stretches by number, judged by the base and by the towers of the other fold, as long as there is time."""
        order = np.random.default_rng(self.seed).permutation(len(parts)).tolist()
        by_fold = [[k for k in order if folds[k] == fold] for fold in range(FOLDS)]
        numbers = [k for several in zip_longest(*by_fold) for k in several if k is not None]  # both folds alike
        each = []
        for k in numbers:
            held = [part for part, fold in zip(parts, folds, strict=True) if fold == folds[k] and part != parts[k]]
            others = [part for part in held if part.file != parts[k].file] or held
            towers = self.out / "runs" / str(folds[k])
            each.append({"base": self.folder, "towers": str(towers), "device": self.device,
                         "precision": self.precision, "other": others[k % len(others)].copy,
                         "seed": self.seed + k})  # fmt: skip
        found: dict[int, Judged] = {}
        place = {parts[k].copy: k for k in numbers}
        enough = lambda: len(found) >= 2 * LEAST  # noqa: E731
        with closing(self._many(JUDGE, "judging", [parts[k] for k in numbers], "judge", each, enough)) as results:
            for part, result in results:
                if not isinstance(result, Failure):
                    found[place[part.copy]] = result
        return found
