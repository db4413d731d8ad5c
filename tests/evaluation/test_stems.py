"""What each thing of a clip sounds like alone is read as data from anyone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.multi_source import duet, stems


@pytest.fixture
def row(tmp_path):
    for name in ("truth", "stems"):
        (tmp_path / name).mkdir()
    source = {"boxes": [[0, 0, 8, 8]], "sounding": True, "onscreen": True}
    (tmp_path / "truth" / "0.json").write_text(json.dumps({"sources": [source, source]}))
    np.savez_compressed(tmp_path / "stems" / "0.npz", stems=np.full((3, 16000), 32767, np.int16))
    return Row(
        tmp_path / "0.mp4", duration=1.0, fps=25.0, width=64, height=64, sample_rate=16000,
        truth=tmp_path / "truth" / "0.json",
    )  # fmt: skip


def _file(row):
    return row.truth.parent.parent / "stems" / "0.npz"


def test_two_things_and_their_sounds(row):
    sounding, alone = duet(row)
    assert [thing.stem for thing in sounding] == [0, 1] and alone.shape == (2, 16000) and (alone == 1).all()


@pytest.mark.parametrize(
    "values",
    [
        np.array([[None] * 16000], object),
        np.zeros((3, 16000)),
        np.zeros(16000, np.int16),
        np.zeros((3, 8000), np.int16),
        np.zeros((65, 32000), np.int16),
    ],
)
def test_other_arrays_are_refused(row, values):
    np.savez_compressed(_file(row), stems=values)
    with pytest.raises(DataError, match="does not hold the sounds of its clip"):
        stems(row)


def test_files_that_are_missing_cut_or_without_stems_are_refused(row):
    whole = _file(row).read_bytes()
    np.savez(_file(row), other=np.zeros(3))
    damaged = [_file(row).read_bytes(), b"", whole[: len(whole) // 2], whole[:60] + bytes(20) + whole[80:]]
    for content in damaged:
        _file(row).write_bytes(content)
        with pytest.raises(DataError, match="does not hold the sounds of its clip"):
            stems(row)
    _file(row).unlink()
    with pytest.raises(DataError, match="there is no such file"):
        stems(row)


def test_a_clip_without_a_truth_has_no_stems(row):
    with pytest.raises(DataError, match="names no truth"):
        stems(replace(row, truth=None))


def test_a_truth_of_other_things_than_the_stems_is_refused(row):
    text = row.truth.read_text()
    source = json.loads(text)["sources"][0]
    row.truth.write_text(json.dumps({"sources": [source]}))
    with pytest.raises(DataError, match="tells of 1 sounding things"):
        duet(row)
    row.truth.write_text(json.dumps({"sources": [{**source, "onscreen": False}] * 3 + [source] * 2}))
    with pytest.raises(DataError, match="more sounds than its stems hold"):
        duet(replace(row))
