"""The stages of a network as its paper draws them, for any clip."""

from dataclasses import replace

import pytest

from avlearn.errors import ModelError
from avlearn.models import registry
from avlearn.models.anatomy import anatomy
from avlearn.models.registry import find_encoder


def test_slowfast_as_in_its_paper():
    """Feichtenhofer et al., ICCV 2019, table 1."""
    drawn = {s.name: (s.kernels, s.output) for s in anatomy("slowfast_r50_4x16").stages}
    assert drawn["slow.stem"] == ("[1x7x7 64]", (64, 4, 56, 56))
    assert drawn["fast.stem"] == ("[5x7x7 8]", (8, 32, 56, 56))
    assert drawn["slow.layer1"] == ("[1x1x1 64, 1x3x3 64, 1x1x1 256] x3", (256, 4, 56, 56))
    assert drawn["fast.layer2"] == ("[3x1x1 16, 1x3x3 16, 1x1x1 64] x4", (64, 32, 28, 28))
    assert drawn["slow.layer3"] == ("[3x1x1 256, 1x3x3 256, 1x1x1 1024] x6", (1024, 4, 14, 14))
    assert drawn["fast.layer4"] == ("[3x1x1 64, 1x3x3 64, 1x1x1 256] x3", (256, 32, 7, 7))
    assert anatomy("slowfast_r50_4x16", (32, 256, 256)).stages[-1].output == (256, 32, 8, 8)


def test_refusals():
    with pytest.raises(ModelError, match="frames are a multiple of 8, not 30"):
        anatomy("slowfast_r50_4x16", (30, 224, 224))
    with pytest.raises(ModelError, match="vggish cannot take 16x112x112: give a clip like 64x96"):
        anatomy("vggish", (16, 112, 112))


def test_a_spec_without_a_clip_takes_one(monkeypatch):
    """As of a plugin's encoder: docs/tutorials/add_a_backbone.md."""
    spec, build = find_encoder("dsconv_tiny")
    monkeypatch.setitem(registry._builders, "dsconv_tiny", (replace(spec, clip=()), build))
    with pytest.raises(ModelError, match="dsconv_tiny has no clip in its spec: give a clip like 16x112x112"):
        anatomy("dsconv_tiny")
    assert anatomy("dsconv_tiny", (16, 64, 64)).clip == (3, 16, 64, 64)
