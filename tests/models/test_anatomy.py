"""The stages of a network as its paper draws them, for any clip."""

import pytest

from avlearn.errors import ModelError
from avlearn.models import list_models, model_spec
from avlearn.models.anatomy import anatomy


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


@pytest.mark.parametrize("name", [name for name in list_models() if model_spec(name).clip])
def test_every_network_can_be_drawn(name):
    drawn = anatomy(name)
    assert f"{model_spec(name).params / 1e6:.2f} M parameters" in drawn.text()
    assert all(len(stage.output) == 4 for stage in drawn.stages)


def test_refusals():
    with pytest.raises(ModelError, match="frames are a multiple of 8, not 30"):
        anatomy("slowfast_r50_4x16", (30, 224, 224))
    with pytest.raises(ModelError, match="names no clip"):
        anatomy("dsconv_tiny")
    with pytest.raises(ModelError, match="not divided into stages"):
        anatomy("dsconv_tiny", (16, 64, 64))
