"""The table of encoders: for people, for programs, and the document in the repository."""

import json
import runpy
from pathlib import Path

import pytest

from avlearn.errors import ModelError
from avlearn.models import create_model, list_models
from avlearn.models.anatomy import anatomy
from avlearn.models.listing import model_list, weight_list
from avlearn.models.registry import TABLE, _own, encoder_table, find_encoder

ROOT = Path(__file__).parents[2]


def test_the_document_is_printed_from_the_specs_of_today():
    document = runpy.run_path(str(ROOT / "tools" / "model_docs.py"))["document"]()
    assert (ROOT / "docs" / "models.md").read_text() == document, "run: python tools/model_docs.py"


def test_the_table_of_encoders_says_what_the_code_says():
    assert TABLE.read_text() == encoder_table(), "run: python tools/model_docs.py"


def test_an_encoder_that_is_built_is_registered_as_the_table_says():
    """Reading JSON gives the same spec: tuples where the code has them."""
    for name, (module, spec) in _own().items():
        found, builder = find_encoder(name)
        assert (builder.__module__, found) == (module, spec)


def test_patterns_and_json():
    found = model_list("slowfast_r50*")
    assert list(found.specs) == list_models("slowfast_r50*")
    lines = found.text().splitlines()
    assert len(lines) == len(found.specs) + 2
    assert max(map(len, model_list().text().splitlines())) <= 100
    row = next(line for line in lines if line.startswith("slowfast_r50_8x8 "))
    assert row.split()[1:7] == ["video", "34.57", "50.31", "32x224x224", "77.0", "Feichtenhofer"]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["schema"] == "avlearn.models/2"
    assert told["models"]["slowfast_r50_8x8"]["params"] == 34_566_488


@pytest.mark.parametrize("asked", [model_list, weight_list, anatomy, create_model])
def test_who_asks_for_what_is_not_there_is_told_the_nearest(asked):
    with pytest.raises(ModelError, match="'slowfas'; the nearest are ") as raised:
        asked("slowfas")
    assert all(f"'{name}'" in str(raised.value) for name in list_models("slowfast*"))
    with pytest.raises(ModelError, match=r"; the nearest are '(\w+)', '(\w+)', '(\w+)'; "):
        asked("slwofast")
