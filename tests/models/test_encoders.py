"""Encoders by name, their options, and where on the map they answer."""

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models import create_model


def test_a_typo_gets_the_nearest_name():
    with pytest.raises(ModelError, match="nearest are 'slowfast_tiny', 'slow"):
        create_model("slowfast_tinny")
    with pytest.raises(ModelError, match="nearest is 'temporal_stride'"):
        create_model("r2plus1d_18", temporal_strid=2)


def test_fewer_temporal_strides_keep_the_weights_of_r2plus1d():
    published, finer = create_model("r2plus1d_18"), create_model("r2plus1d_18", temporal_stride=2)
    assert {k: v.shape for k, v in published.state_dict().items()} == {
        k: v.shape for k, v in finer.state_dict().items()
    }


@pytest.mark.parametrize("row", [20, 33, 44])
@pytest.mark.parametrize("column", [23, 32, 41])
def test_a_cell_of_the_map_stands_for_its_own_pixels(row, column):
    """What moves at a place answers, on average over random networks, at that place: not half a cell off."""
    offsets = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = create_model("dsconv_tiny").eval()
        still = torch.full((1, 3, 10, 64, 64), 0.5)
        moved = still.clone()
        moved[:, :, 4:6, row - 2 : row + 2, column - 2 : column + 2] += 0.4
        with torch.inference_mode():
            change = (model.forward_features(moved) - model.forward_features(still)).square().sum((0, 1, 2))
        cells = torch.arange(8) * 8 + 4.0
        y = (change.sum(1) * cells).sum() / change.sum()
        x = (change.sum(0) * cells).sum() / change.sum()
        offsets.append([float(y) - row, float(x) - column])
    y, x = torch.tensor(offsets).mean(0)
    # Half a cell is 4 pixels; cells are 8 apart, so that a single place may be answered up to 2 off.
    assert abs(y) < 2.5
    assert abs(x) < 2.5
