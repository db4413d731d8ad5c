"""Which track is told to be which thing's, of two that sound in one video."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from avlearn.data.manifest import Row
from avlearn.evaluation import duets

RATE = 16000
LEFT, RIGHT = [0, 24, 16, 40], [48, 24, 64, 40]


@pytest.fixture
def row(tmp_path) -> Row:
    """A thing at the left and one at the right; the left one's sound is the first stem."""
    for name in ("truth", "stems"):
        (tmp_path / name).mkdir()
    things = [{"boxes": [box] * 25, "sounding": True, "onscreen": True} for box in (LEFT, RIGHT)]
    (tmp_path / "truth" / "0.json").write_text(json.dumps({"sources": things}))
    stems = np.random.default_rng(0).integers(-9000, 9000, (2, RATE)).astype(np.int16)
    np.savez_compressed(tmp_path / "stems" / "0.npz", stems=stems)
    return Row(
        tmp_path / "0.mp4", duration=1.0, fps=25.0, width=64, height=64, sample_rate=RATE,
        truth=tmp_path / "truth" / "0.json",
    )  # fmt: skip


@pytest.mark.parametrize(
    "places, stems",
    [
        ([(0.9, 0.5), (0.1, 0.5)], (1, 0)),  # found right first: its track is the second thing's
        ([(0.1, 0.5), (0.9, 0.5)], (0, 1)),
        ([(0.8, 0.5)], (1, 0)),  # one alone was found: what is left is the other's
    ],
)
def test_a_track_is_that_of_the_thing_whose_box_is_nearer(row, places, stems, monkeypatch):
    asked = []

    def separate(path: Path, model: object, folder: str, sources: int) -> SimpleNamespace:
        asked.append(sources)
        tracks = []
        for number, stem in enumerate(stems):
            tracks.append(SimpleNamespace(audio=Path(folder) / f"{number}.wav"))
            soundfile.write(tracks[-1].audio, duets.duet(row)[1][stem], RATE, "FLOAT")
        return SimpleNamespace(tracks=tracks, sources=[SimpleNamespace(place=place) for place in places])

    monkeypatch.setattr(duets, "separate_file", separate)
    monkeypatch.setattr(duets, "ideal_mask_tracks", lambda model, truth: {"phase-sensitive": truth})
    found = {metric.name: metric for metric in duets.duet_metrics(None, [row, row])}
    assert asked == [2, 2]
    assert found["assignment, two in one video"].value == 1.0
    improvement = next(metric for name, metric in found.items() if name.startswith("SI-SDRi"))
    assert improvement.value > 50 and improvement.n == 2
