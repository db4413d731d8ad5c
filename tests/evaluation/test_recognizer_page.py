"""The page of a recognizer."""

import re

import numpy as np
import pytest
from PIL import Image

from avlearn.data.manifest import Row, read_manifest
from avlearn.evaluation.recognizer_page import write_recognizer_page
from avlearn.evaluation.recognizer_result import RecognitionResult, ScoredClips
from avlearn.media import write_video


def result(rows, names, truth, scores, **changes) -> RecognitionResult:
    said = {"inputs": "video", "multi_label": False, "average": "probabilities", **changes}
    clips = ScoredClips(rows, names, truth, {"video": scores}, *said.values())
    return RecognitionResult(clips, "even:10x3", "0" * 64, 2, (("gone.mp4", "it is gone"),))


@pytest.fixture
def clip(tmp_path) -> Row:
    path = tmp_path / "clip.mp4"
    write_video(path, [np.full((64, 96, 3), 90, np.uint8)] * 30, 25)
    return Row(path, 0.0, 1.2, width=96, height=64, labels=("bell",))


def test_the_page_has_figures_classes_confusions_and_the_hardest_clips(clip, tmp_path):
    truth = np.eye(3, dtype=bool)[[0, 0, 1]]
    scores = np.array([[0.1, 0.7, 0.2], [0.3, 0.5, 0.2], [0.2, 0.6, 0.2]], np.float32)
    page = write_recognizer_page(
        tmp_path / "page", result([clip] * 3, ("bell", "fan", "siren"), truth, scores), "runs/mine"
    )
    text = page.read_text()
    assert re.findall(r"<h2[^>]*>([^<]+)", text) == ["Figures", "Confusions", "Classes", "Hardest clips"]
    for words in ("runs/mine", "fold 2", "even:10x3", "gone.mp4", "it is gone", "true: bell (0.100)", "fan (0.700)"):
        assert words in text
    assert text.index("bell (0.100)") < text.index("bell (0.300)")  # the hardest first
    assert "siren (" not in text and text.count("data:image/jpeg") == 2
    assert Image.open(tmp_path / "page" / "confusion.png").size[0] > 200
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_what_cannot_be_shown_is_told_in_words(clip, tmp_path):
    gone = Row(tmp_path / "gone.mp4", 0.0, 1.0, width=64, labels=("bell",))
    truth, scores = np.eye(2, dtype=bool)[[0]], np.array([[0.2, 0.8]], np.float32)
    text = write_recognizer_page(tmp_path / "page", result([gone], ("bell", "fan"), truth, scores), "m").read_text()
    assert "true: bell (0.200)" in text and "data:image/jpeg" not in text


def test_a_clip_without_video_is_shown_as_it_sounds(small_world, tmp_path):
    row = read_manifest(small_world)[0]
    heard = Row(row.path, row.start, row.duration, sample_rate=16000, channels=1, labels=("bell",))
    truth, scores = np.eye(2, dtype=bool)[[0]], np.array([[0.2, 0.8]], np.float32)
    text = write_recognizer_page(tmp_path / "page", result([heard], ("bell", "fan"), truth, scores), "m").read_text()
    assert "data:audio/wav" in text and "spectrogram" in text


def test_classes_that_are_confused_are_neighbours_where_there_are_many(clip, tmp_path):
    names = tuple(f"class {k}" for k in range(14))
    truth = np.eye(14, dtype=bool)[np.arange(14).repeat(2)]
    scores = truth.astype(np.float32)
    scores[[1, 27]] = scores[[27, 1]]  # 0 and 13 are taken for each other
    text = write_recognizer_page(tmp_path / "page", result([clip] * 28, names, truth, scores), "m").read_text()
    axis = re.findall(r">(class \d+)</text>", text)[:14]
    assert abs(axis.index("class 0") - axis.index("class 13")) == 1
    assert "neighbours" in text


def test_several_labels(clip, tmp_path):
    truth = np.array([[True, True, False], [False, True, True]])
    scores = np.array([[0.1, 0.2, 0.9], [0.1, 0.9, 0.8]], np.float32)
    found = result([clip] * 2, ("bell", "fan", "siren"), truth, scores, multi_label=True)
    text = write_recognizer_page(tmp_path / "page", found, "m").read_text()
    assert "mAP" in text and "average precision" in text
