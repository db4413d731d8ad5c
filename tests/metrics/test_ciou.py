"""Numbers of the published evaluators on the same drawn maps and boxes, and the centre prior of VGG-SS."""

import json
from pathlib import Path

import numpy as np
import pytest

from avlearn.metrics.ciou import (
    annotation_map,
    benchmark,
    best_iou,
    centre_maps,
    consensus_iou,
    off_centre,
    pointing_game,
    success_auc,
    success_rate,
    top_area,
    top_half,
)
from avlearn.metrics.multi_source import interactive_iou

VGG_SS = Path(__file__).resolve().parents[3] / "shared" / "media" / "annotations" / "vggss" / "vggss.json"


def drawn(agree: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps and truths ``[10, 224, 224]``; two boxes each."""
    rng = np.random.default_rng(7)
    corner = 0.4 * rng.random((10, 2, 2))
    boxes = np.concatenate([corner, corner + 0.3 + 0.4 * rng.random((10, 2, 2))], 2)
    truth = np.stack([annotation_map(b, agree=agree) for b in boxes])
    return rng.random((10, 224, 224)) + 2 * (truth > 0) * rng.random((10, 1, 1)), truth


# stoneMo/EZ-VSL 95ff5bf, utils.Evaluator after datasets.bbox2gtmap: mean, AP50, AUC.
EZ_VSL = {
    1: (0.6140379422250949, 0.6, 0.62),
    2: (0.548914608693315, 0.5, 0.5499999999999999),
}
# kaistmm/SSLalignment e7ae3c5, utils.Evaluator_iiou: mean, adaptive mean, adaptive cIoU, adaptive AUC.
SSL_ALIGNMENT = {
    1: (0.6140512595436316, 0.7340798630714883, 0.7, 0.715),
    2: (0.5489340412573154, 0.7076703902103291, 0.6, 0.695),
}
# The same, items two by two: IIoU, IAUC, then both adaptive.
INTERACTIVE = {1: (0.4, 0.525, 0.6, 0.5650000000000001), 2: (0.4, 0.455, 0.4, 0.535)}


@pytest.mark.parametrize("agree", [1, 2])
def test_published_numbers(agree):
    maps, truth = drawn(agree)
    half = consensus_iou(top_half(maps), truth)
    assert (half.mean(), success_rate(half), success_auc(half)) == pytest.approx(EZ_VSL[agree], abs=1e-9)
    above = consensus_iou(top_half(maps, strict=True), truth)
    area = consensus_iou(top_area(maps, truth), truth)
    found = (above.mean(), area.mean(), success_rate(area), success_auc(area))
    assert found == pytest.approx(SSL_ALIGNMENT[agree], abs=1e-9)
    videos = np.arange(10) // 2
    assert interactive_iou(above, videos) + interactive_iou(area, videos) == pytest.approx(INTERACTIVE[agree], abs=1e-9)


def test_annotators_have_to_agree():
    boxes = np.array([[0, 0, 0.5, 1], [0.25, 0, 0.75, 1], [0.25, -1, 1.5, 0.5]])
    union, votes = annotation_map(boxes, (2, 4)), annotation_map(boxes, (2, 4), 2)
    assert union.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert votes.tolist() == [[0.5, 1, 1, 0.5], [0.5, 1, 0.5, 0]]
    assert not annotation_map(np.zeros((0, 4)), (2, 4)).any()


def test_overlap_by_hand():
    truth = np.array([[[1, 0.5], [0, 0]], [[0, 0], [0, 0]]])
    hot = np.array([[[True, False], [True, False]], [[False, False], [False, False]]])
    assert consensus_iou(hot, truth).tolist() == [1 / 2.5, 0]
    assert best_iou(truth, 1).tolist() == [1 / 1.5, 0]
    assert best_iou(truth, np.array([3, 0])).tolist() == [1.5 / 2.5, 0]


def test_a_flat_map_is_hot_everywhere_or_nowhere():
    flat = np.zeros((1, 4, 4))
    assert top_half(flat).all() and not top_half(flat, strict=True).any()
    assert not top_area(flat, flat).any()


def test_no_mask_beats_the_ceiling():
    maps, truth = drawn(2)
    assert (consensus_iou(top_half(maps), truth) <= best_iou(truth, 224 * 224 // 2)).all()
    # A map that ranks the pixels as the truth does reaches it.
    ranked = truth + 1e-6 * maps
    assert consensus_iou(top_half(ranked), truth) == pytest.approx(best_iou(truth, 224 * 224 // 2))


def test_a_worst_source_decides_over_its_video():
    overlaps = np.array([0.9, 0.4, 0.6, 0.5])
    assert interactive_iou(overlaps, np.array(["a", "a", "b", "b"]))[0] == 0.5
    assert interactive_iou(overlaps, np.array(["a", "b", "a", "b"]))[0] == 0.5
    assert interactive_iou(overlaps, np.array([0, 1, 2, 3]))[0] == 0.75


def test_pointing_shares_the_credit():
    truth = np.zeros((2, 2, 2))
    truth[:, 0, 0] = 0.5
    maps = np.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    assert pointing_game(maps, truth).tolist() == [1.0, 0.5]


@pytest.fixture(scope="module")
def vgg_ss() -> np.ndarray:
    """bool ``[5158, 224, 224]``."""
    if not VGG_SS.exists():
        pytest.skip(f"needs the boxes that VGG-SS has published, in {VGG_SS}")
    boxes = [np.array(item["bbox"]) for item in json.loads(VGG_SS.read_text())]
    return np.stack([annotation_map(b) > 0 for b in boxes])


def test_a_blob_at_the_centre_comes_close_to_trained_models_on_vgg_ss(vgg_ss):
    """34.0 / 37.4 without looking or listening (LVS of CVPR 2021: 34.4 / 38.2), and no more than 50.5 / 49.5."""
    assert len(vgg_ss) == 5158

    def percent(overlaps: np.ndarray) -> tuple[float, float]:
        return round(100 * success_rate(overlaps), 1), round(100 * success_auc(overlaps), 1)

    def overlaps(hot: np.ndarray) -> np.ndarray:
        return np.concatenate([consensus_iou(hot, part) for part in np.array_split(vgg_ss, 50)])

    centre = overlaps(top_half(centre_maps(1, (224, 224), 0.5)))
    assert percent(centre) == (34.0, 37.4)
    assert percent(overlaps(np.ones((1, 224, 224), bool))) == (21.9, 31.3)
    ceiling = np.concatenate([best_iou(part, 224 * 224 // 2) for part in np.array_split(vgg_ss, 50)])
    assert percent(ceiling) == (50.5, 49.5)
    off = off_centre(vgg_ss)
    assert round(100 * off.mean(), 1) == 30.6
    assert success_rate(centre[off]) < 0.05 < success_rate(centre[~off])


def test_figures_of_a_benchmark_beside_prior_and_ceiling():
    truth = np.stack([annotation_map(np.array([b])) for b in ([0.1, 0.1, 0.4, 0.4], [0.3, 0.2, 0.9, 0.9])])
    maps = truth + np.linspace(0, 0.5, 224)  # no ties
    metrics = {f.name: f for f in benchmark(zip(maps, truth, strict=True), "set")}
    assert len(metrics) == 10
    whole, off = metrics["cIoU@0.5, set"], metrics["cIoU@0.5, set, off centre"]
    assert (whole.value, whole.prior, whole.oracle, whole.n) == (0.5, 0.5, 0.5, 2)
    assert (off.value, off.prior, off.oracle, off.n) == (0.0, 0.0, 0.0, 1)
    assert metrics["pointing, set"].value == 1.0 == metrics["pointing, set"].oracle
    assert metrics["pointing, set, off centre"].prior == 0.0
    assert metrics["adaptive cIoU AUC, set, off centre"].oracle > 0.95
    assert metrics["pointing, set"].chance == pytest.approx(truth.mean())


def test_chance_is_what_noise_gets():
    rng = np.random.default_rng(1)
    truth = np.stack([annotation_map(np.array([[0.1, 0.2, 0.5, 0.9], [0.3, 0.3, 0.6, 1]]), agree=2)] * 4)
    metrics = benchmark([(rng.random((224, 224)), t) for t in truth])
    names = ("cIoU AUC", "adaptive cIoU AUC")
    for metric in (f for f in metrics if f.name in names):
        assert metric.value == pytest.approx(metric.chance, abs=0.051)
    noise = consensus_iou(top_half(rng.random((4, 224, 224))), truth)
    share = 0.5 * truth[0].mean() / (truth[0].mean() + 0.5 * (truth[0] == 0).mean())
    assert noise == pytest.approx(np.full(4, share), abs=0.01)


def test_broken_benchmarks_are_refused():
    with pytest.raises(ValueError, match="no map"):
        benchmark([])
    with pytest.raises(ValueError, match="map 0"):
        benchmark([(np.full((4, 4), np.nan), np.ones((4, 4)))])
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        benchmark([(np.zeros((2, 2)), np.ones((4, 4)))])
