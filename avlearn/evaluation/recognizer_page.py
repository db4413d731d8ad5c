"""The page of a recognizer: figures, classes, what is taken for what, and the clips that are hardest."""

from pathlib import Path
from typing import Any

import numpy as np

from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError
from avlearn.evaluation.recognizer_result import RecognitionResult
from avlearn.media import ClipReader, Window
from avlearn.metrics.labelling import confusion_order
from avlearn.report.page import Page
from avlearn.report.plots import confusion, spectrogram, write_png

_HARDEST, _PAIRS = 12, 20
_AS_THEY_ARE = 12  # classes that are left in the model's order
_WORDS = {"label": "class", "n": "clips", "top1": "top-1", "ap": "average precision", "taken_for": "most taken for"}
_SIZE, _RATE, _SECONDS = 192, 16000, 10.0  # of what is shown of a clip


def write_recognizer_page(folder: Path, result: RecognitionResult, name: str) -> Path:
    """Write ``index.html``, and ``confusion.png`` beside it.

    Args:
        folder: is made where it is not there.
        result: of an evaluation.
        name: of the model.

    Returns:
        The page.

    Raises:
        OutputError: it cannot be written.
    """
    clips = result.clips
    fold = "" if result.fold is None else f", fold {result.fold}"
    page = Page(
        f"Recognizer {name}",
        f"{len(clips.rows)} clips, {len(clips.names)} classes, views {result.views}, mean of {clips.average}{fold}; "
        f"clips: sha256 {result.items[:16]}",
    )
    page.section("Figures", "Each beside what guessing gives, and what always naming the most frequent labels gives.")
    page.metrics(result.figures)
    if result.skipped:
        page.table([{"path": path, "why": why} for path, why in result.skipped], "Clips that are in no figure")
    folder.mkdir(parents=True, exist_ok=True)
    _confusions(page, result, folder / "confusion.png")
    page.section("Classes", "The least recognized first.")
    key = "ap" if clips.multi_label else "top1"
    classes = sorted(result.classes, key=lambda one: one[key])
    page.table([{_WORDS[word]: value for word, value in one.items()} for one in classes])
    _hardest(page, result)
    return page.save(folder / "index.html")


def _confusions(page: Page, result: RecognitionResult, picture: Path) -> None:
    """The matrix of the classes that occur or are answered, and the pairs that are most confused."""
    matrix, names = result.confusion, result.clips.names
    shown = np.flatnonzero(matrix.any(0) | matrix.any(1) | result.clips.truth.any(0))
    if len(shown) > _AS_THEY_ARE:
        shown = shown[confusion_order(matrix[np.ix_(shown, shown)])]
    figure = confusion(matrix[np.ix_(shown, shown)], [names[k] for k in shown.tolist()])
    write_png(picture, figure)
    order = "; classes that are taken for each other are neighbours" if len(shown) > _AS_THEY_ARE else ""
    page.section("Confusions")
    page.image(figure, f"True classes (rows) and answers (columns); the darker, the larger the share of the row{order}")
    if result.confused:
        words = {"label": "true", "answered": "answered", "n": "clips"}
        pairs = [{words[key]: value for key, value in pair.items()} for pair in result.confused[:_PAIRS]]
        page.table(pairs, "Most confused pairs")


def _hardest(page: Page, result: RecognitionResult) -> None:
    """Cards of the clips whose labels got the least."""
    clips = result.clips
    hardest = clips.hardest()[:_HARDEST].tolist()
    if not hardest:
        return
    page.section("Hardest clips", "Wrong answers, those first whose own labels got the least.")
    cards = []
    for k in hardest:
        row, own = clips.rows[k], clips.probabilities[k]
        labels = ", ".join(f"{clips.names[j]} ({own[j]:.3f})" for j in np.flatnonzero(clips.truth[k]).tolist())
        answer = f"{clips.names[clips.answers[k]]} ({own[clips.answers[k]]:.3f})"
        parts = [*_shown(row), ("text", f"true: {labels}\n\nanswered: {answer}", "")]
        cards.append((row.name, parts))
    page.cards(cards)


def _shown(row: Row) -> list[tuple[str, Any, str]]:
    """A frame from the middle of a clip; the spectrogram of one without video; nothing of one that cannot be read."""
    try:
        if row.width:
            window = Window(row.start + row.duration / 2, 0.04)
            (clip,) = ClipReader(fps=25, size=_SIZE, audio=False).read(row.source, [window])
            return [("image", clip.video[0], "a frame of the clip")]
        window = Window(row.start, min(row.duration, _SECONDS))
        (clip,) = ClipReader(sample_rate=_RATE, mono=True, video=False).read(row.source, [window])
        return [("image", spectrogram(clip.audio, _RATE), "spectrogram"), ("audio", (clip.audio, _RATE), "")]
    except AvlearnError:
        return []
