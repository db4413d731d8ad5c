"""Networks held to their specs, and to the figures of their reference implementations, without computing anything.

A row of ``acceptance/FAMILY.tsv``: name, options as JSON (``num_classes`` 400 unless it says another), input as
CxTxHxW, parameters (exact; empty where none are known), 10^9 multiply-adds (within half a percent).
"""

import csv
import json
from pathlib import Path

import pytest
import torch

from avlearn.models import create_model, list_models, model_spec
from avlearn.models.anatomy import Anatomy, anatomy
from avlearn.models.cost import cost

ROWS: dict[str, list[dict[str, str]]] = {}
for table in sorted((Path(__file__).parent / "acceptance").glob("*.tsv")):
    with table.open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            ROWS.setdefault(row["name"], []).append(row)


@pytest.fixture(scope="module", params=list_models())
def drawn(request) -> Anatomy:
    """A network with the classes and the clip of its spec; pytest puts the tests of each side by side."""
    return anatomy(request.param)


def test_a_spec_is_true(drawn):
    spec = model_spec(drawn.name)
    assert drawn.params == spec.params
    assert drawn.gmacs == pytest.approx(spec.gmacs, rel=5e-3)


def test_every_network_can_be_drawn(drawn):
    spec = model_spec(drawn.name)
    assert f"{spec.params / 1e6:.2f} M parameters" in drawn.text()
    assert f"{spec.gmacs:.2f} GMACs" in drawn.text() or spec.kind == "video"
    assert len({stage.name for stage in drawn.stages}) == len(drawn.stages)


def test_parameters_and_multiply_adds_are_those_of_the_reference(drawn):
    spec = model_spec(drawn.name)
    for row in ROWS.get(drawn.name, ()):
        options = {"num_classes": 400} | json.loads(row["options"] or "{}")
        shape = tuple(int(side) for side in row["input"].split("x"))
        if (options, shape) == ({"num_classes": spec.classes}, drawn.clip):
            params, gmacs = drawn.params, drawn.gmacs
        else:
            with torch.device("meta"):
                model = create_model(drawn.name, **options)
            params, gmacs = cost(model, shape)
        if row["params"]:
            assert params == int(row["params"].replace(",", "")), row
        assert gmacs == pytest.approx(float(row["gmacs"]), rel=5e-3), row


def test_rows_are_of_networks_that_are_registered():
    assert ROWS and ROWS.keys() <= set(list_models())


def test_stages_and_features_are_as_said(drawn):
    """On the input of the spec."""
    (_check_video if model_spec(drawn.name).kind == "video" else _check_audio)(drawn)


def _check_video(drawn: Anatomy) -> None:
    """Names, channels and strides of every stage, and of the features."""
    with torch.device("meta"):
        model = create_model(drawn.name).eval()
        clip = torch.empty(1, *drawn.clip)
    stages = {stage.name: (1, *stage.output) for stage in drawn.stages}
    with torch.no_grad():
        if tuple(stages) != tuple(info.name for info in model.stage_info):  # drawn by pathways
            stages = {name: tuple(found.shape) for name, found in model.forward_stages(clip).items()}
        features = model.forward_features(clip)
        assert model.forward_head(features).shape == (1, model.num_features)
    assert tuple(stages) == tuple(info.name for info in model.stage_info)
    pairs = zip(model.stage_info, stages.values(), strict=True)
    for info, found in [*pairs, (model.feature_info, tuple(features.shape))]:
        assert found[:2] == (1, info.channels), info
        for side, stride, sides in zip(clip.shape[2:], info.stride, found[2:], strict=True):
            assert side // stride <= sides <= -(-side // stride), info


def _check_audio(drawn: Anatomy) -> None:
    """Channels and stride of the features, which a classifier is put on and taken off."""
    with torch.device("meta"):
        model = create_model(drawn.name, num_classes=5).eval()
        heard = torch.empty(1, *drawn.clip)
    with torch.no_grad():
        features = model.forward_features(heard)
        assert model(heard).shape == (1, 5)
        model.reset_classifier(None)
        assert model(heard).shape == (1, model.num_features)
    assert features.shape[:2] == (1, model.feature_info.channels)
    steps = heard.shape[-1] / model.feature_info.stride[0]
    assert abs(features.shape[2] - steps) < 2  # windows at the ends may lack a step, or be filled up
