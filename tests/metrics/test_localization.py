import numpy as np
import pytest
import torch

from avlearn.metrics.localization import (
    box_mask,
    centre_maps,
    ciou,
    control,
    enlarge,
    ideal_maps,
    localization,
    pointing,
    sounding_over_muted,
    success_auc,
)


def blob(boxes: np.ndarray, size: int) -> np.ndarray:
    at = np.arange(size) + 0.5
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    squared = (at[None, :, None] - centre[:, 1, None, None]) ** 2
    squared = squared + (at[None, None] - centre[:, 0, None, None]) ** 2
    return np.exp(-squared / 50)


@pytest.mark.parametrize("size", [(48, 64), (5, 7), (8, 12)])
def test_enlargement_is_the_half_pixel_bilinear_one(size):
    maps = np.random.default_rng(0).normal(size=(2, 8, 12))
    if min(size) < 8:  # making smaller samples without smoothing, like the reference
        maps = maps[:, :5, :7]
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(enlarge(maps, size), reference.numpy(), atol=1e-12)


def test_mask_counts_pixel_centres_and_never_is_empty():
    mask = box_mask(np.array([[1.0, 2.0, 4.0, 3.0], [2.6, 2.6, 2.8, 2.8], [-9.0, 0.0, -1.0, 4.0]]), (4, 6))
    assert mask[0].sum() == 3 and mask[0, 2, 1:4].all()
    assert mask[1].sum() == 1 and mask[1, 2, 2]
    assert mask[2].sum() == 4 and mask[2, :, 0].all()
    with pytest.raises(ValueError, match="x0 < x1"):
        box_mask(np.array([[2.0, 2.0, 2.0, 3.0]]), 4)


def test_pointing_and_overlap_by_hand():
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 1:3] = [1.0, 0.5]
    box = np.array([[1.0, 1.0, 2.0, 3.0]])  # pixels (1, 1) and (2, 1)
    assert pointing(maps, box) == [1.0]
    assert ciou(maps, box)[0] == pytest.approx(1 / 3)  # two hot, two in the box, one in both
    assert ciou(maps, box, 0.6)[0] == pytest.approx(1 / 2)
    assert pointing(np.zeros((1, 4, 4)), box)[0] == pytest.approx(2 / 16)
    assert pointing(maps, np.array([[3.0, 3.0, 4.0, 4.0]])) == [0.0]


def test_what_is_hot_is_told_by_the_height_above_the_median():
    maps = np.zeros((1, 4, 4))
    maps[0, 1, 1:3] = [1.0, 0.6]
    box = np.array([[1.0, 1.0, 3.0, 2.0]])
    assert ciou(maps, box)[0] == 1
    maps[0, 3, 3] = -9  # one cold place makes nothing hotter
    assert ciou(maps + 5, box)[0] == 1
    assert ciou(np.zeros((1, 4, 4)), box)[0] == pytest.approx(2 / 16)


def test_auc_is_the_trapezoid_over_21_thresholds():
    assert success_auc(np.array([1.0])) == pytest.approx(1.0)
    assert success_auc(np.array([0.0])) == pytest.approx(0.025)
    # Shares at 0, .05 ... .5 are 1, above 0: ten whole steps and half of one.
    assert success_auc(np.array([0.5])) == pytest.approx(0.525)


def test_sounding_over_muted_needs_the_higher_maximum():
    maps = np.zeros((3, 4, 4))
    maps[0, 0, 0], maps[1, 3, 3] = 1, 1
    sounding = np.tile([0.0, 0.0, 2.0, 2.0], (3, 1))
    muted = np.tile([2.0, 2.0, 4.0, 4.0], (3, 1))
    assert sounding_over_muted(maps, sounding, muted).tolist() == [1.0, 0.0, 0.5]


def test_centre_prior_marks_the_area_it_is_given():
    maps = centre_maps(2, (96, 128), 0.1)
    np.testing.assert_allclose((maps >= 0.5).mean((1, 2)), 0.1, atol=0.01)


def test_truth_on_a_grid_is_the_share_of_each_cell():
    maps = ideal_maps(np.array([[4.0, 0.0, 16.0, 8.0]]), (2, 4), (16, 32))
    np.testing.assert_allclose(maps[0], [[0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


def test_figures_stand_beside_the_stronger_prior_and_the_grid_limit():
    rng = np.random.default_rng(1)
    size, n = 64, 40
    corner = rng.uniform(0, 44, (n, 2))
    boxes = np.concatenate([corner, corner + 16], 1)
    silent = np.concatenate([(corner + 22) % 44, (corner + 22) % 44 + 16], 1)
    metrics = localization(blob(boxes, size), blob(silent, size), boxes, silent, size, name="test")
    named = {metric.name.split(",")[0]: metric for metric in metrics}
    assert named["pointing"].value == 1.0 == named["sounding over silent"].value
    assert named["pointing"].prior_name == "centre"  # motion shows the silent thing only
    assert named["pointing"].chance == pytest.approx(16 * 16 / 64**2, rel=0.05)
    assert named["sounding over silent"].chance == 0.5
    assert named["mean IoU"].value > 0.4 > named["mean IoU"].prior
    assert all(f.value >= f.prior and f.oracle > 0.98 and f.n == n for f in metrics)

    coarse = localization(np.zeros((n, 4, 4)), None, boxes, None, size)
    assert len(coarse) == 4
    # Boxes of 16 pixels on cells of 16: the grid itself is in the way.
    assert next(f for f in coarse if f.name == "mean IoU").oracle < 0.9

    moved = localization(blob(boxes, size), blob(boxes, size), boxes, silent, size)[0]
    assert moved.prior_name == "loudest motion" and moved.prior == 1.0
    assert control(blob(silent, size), boxes, silent, size, "x").value == 0.0


def test_broken_maps_are_refused():
    with pytest.raises(ValueError, match="heatmap 1 is not finite"):
        localization(np.array([np.zeros((2, 2)), np.full((2, 2), np.nan)]), None, np.ones((2, 4)), None, 8)
    with pytest.raises(ValueError, match="boxes"):
        localization(np.zeros((2, 2, 2)), None, np.array([[0.0, 0.0, 1.0, 1.0]]), None, 8)


def test_a_thin_box_at_the_edge_marks_the_last_pixel():
    marked = box_mask(np.array([[8.0, 3.0, 8.2, 5.0], [-0.4, 0.6, -0.1, 0.9]]), 8)
    assert [np.argwhere(mask).tolist() for mask in marked] == [[[3, 7], [4, 7]], [[0, 0]]]
