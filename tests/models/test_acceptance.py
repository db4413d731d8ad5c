"""Networks held to the figures of their reference implementations, without computing anything.

A row of ``acceptance/FAMILY.tsv``: name, options as JSON (``num_classes`` 400 unless it says another), input as
CxTxHxW, parameters (exact; empty where none are known), 10^9 multiply-adds (within half a percent).
"""

import csv
import json
from pathlib import Path

import pytest
import torch

from avlearn.models import create_model, list_models, model_spec
from avlearn.models.cost import cost

ROWS = []
for table in sorted((Path(__file__).parent / "acceptance").glob("*.tsv")):
    with table.open(newline="") as lines:
        ROWS += list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']} {row['options']} {row['input']}")
def test_parameters_and_multiply_adds(row):
    options = {"num_classes": 400} | json.loads(row["options"] or "{}")
    with torch.device("meta"):
        model = create_model(row["name"], **options)
    params, gmacs = cost(model, [int(side) for side in row["input"].split("x")])
    if row["params"]:
        assert params == int(row["params"].replace(",", ""))
    assert gmacs == pytest.approx(float(row["gmacs"]), rel=5e-3)


@pytest.mark.parametrize("name", list_models())
def test_a_spec_is_true(name):
    spec = model_spec(name)
    with torch.device("meta"):
        model = create_model(name, num_classes=spec.classes)
    assert sum(p.numel() for p in model.parameters()) == spec.params
    _, gmacs = cost(model, spec.shape)
    assert gmacs == pytest.approx(spec.gmacs, rel=5e-3)


@pytest.mark.parametrize("name", [name for name in list_models() if model_spec(name).kind == "video"])
def test_stages_are_as_said(name):
    """On the clip of the spec: names, channels and strides of every stage, and of the features."""
    with torch.device("meta"):
        model = create_model(name).eval()
        clip = torch.empty(1, *model_spec(name).shape)
    with torch.no_grad():
        stages, features = model.forward_stages(clip), model.forward_features(clip)
        assert model.forward_head(features).shape == (1, model.num_features)
    assert tuple(stages) == tuple(info.name for info in model.stage_info)
    for info, found in [*zip(model.stage_info, stages.values(), strict=True), (model.feature_info, features)]:
        assert found.shape[:2] == (1, info.channels), info
        for side, stride, sides in zip(clip.shape[2:], info.stride, found.shape[2:], strict=True):
            assert side // stride <= sides <= -(-side // stride), info


@pytest.mark.parametrize("name", [name for name in list_models() if model_spec(name).kind == "audio"])
def test_features_of_audio_are_as_said(name):
    """On the input of the spec: channels and stride of the features, which a classifier is put on and taken off."""
    with torch.device("meta"):
        model = create_model(name, num_classes=5).eval()
        heard = torch.empty(1, *model_spec(name).shape)
    with torch.no_grad():
        features = model.forward_features(heard)
        assert model(heard).shape == (1, 5)
        model.reset_classifier(None)
        assert model(heard).shape == (1, model.num_features)
    assert features.shape[:2] == (1, model.feature_info.channels)
    steps = heard.shape[-1] / model.feature_info.stride[0]
    assert abs(features.shape[2] - steps) < 2  # windows at the ends may lack a step, or be filled up
