"""What a clip's truth says is in its video, and truths that say nothing."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avlearn.errors import DataError
from avlearn.evaluation.scene_objects import scene_objects

SOURCE = {"sounding": True, "onscreen": True, "boxes": [[0, 0, 10, 10], None]}


def row(path, text):
    path.write_text(text)
    return SimpleNamespace(truth=path, width=100, height=50)


def test_boxes_are_shares_of_the_frame(tmp_path):
    hidden = {**SOURCE, "onscreen": False}
    (thing,) = scene_objects(row(tmp_path / "a.json", json.dumps({"sources": [hidden, SOURCE]})))
    assert thing.sounding and thing.boxes[0].tolist() == [0, 0, 0.1, 0.2] and np.isnan(thing.boxes[1]).all()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "[" * 100_000, '{"sources": 5}', '{"sources": [{}]}',
     json.dumps({"sources": [{**SOURCE, "boxes": 5}]}), json.dumps({"sources": [{**SOURCE, "boxes": [[1, 2]]}]}),
     json.dumps({"sources": [{**SOURCE, "boxes": [["a", 1, 1, 1]]}]})],
)  # fmt: skip
def test_what_is_no_truth_is_one_line(tmp_path, text):
    with pytest.raises(DataError, match=r"a\.json does not say what is in the video") as caught:
        scene_objects(row(tmp_path / "a.json", text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_clip_without_a_truth_is_one_line():
    with pytest.raises(DataError, match=r"real\.mp4: its manifest names no truth"):
        scene_objects(SimpleNamespace(path=Path("real.mp4"), truth=None, width=100, height=50))
