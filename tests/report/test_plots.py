import io

import numpy as np
import pytest
from PIL import Image

from avlearn.errors import OutputError
from avlearn.metrics.localization import enlarge
from avlearn.report.plots import (
    confusion,
    heatmap_frames,
    offset_curve,
    overlay,
    png_bytes,
    reliability_curve,
    spectrogram,
    training_curves,
    write_png,
)


def test_overlay_leaves_cold_places_and_colours_hot_ones():
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(frame, np.zeros((4, 6))), frame)
    heat = np.zeros((4, 6))
    heat[1, 2] = 1
    hot = overlay(frame, heat)
    changed = (hot != frame).any(-1)
    # Linear between centres of cells: nothing beyond the neighbours' centres.
    assert changed[10:20, 20:30].mean() > 0.95
    assert not changed[26:].any() and not changed[:, 36:].any()
    expected = 0.3 * frame + 0.7 * np.array([252, 255, 164])
    np.testing.assert_allclose(overlay(frame, np.ones((1, 1))), expected, atol=4)


def test_overlay_is_the_blend_it_says_within_rounding():
    from matplotlib import colormaps

    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    heat = rng.random((5, 7))
    big = enlarge(heat[None], frame.shape[:2])[0]
    alpha = (0.7 * big**1.5)[..., None]
    expected = frame * (1 - alpha) + 255 * colormaps["inferno"](big)[..., :3] * alpha
    np.testing.assert_allclose(overlay(frame, heat), expected, atol=4)
    assert overlay(frame, 3 * heat - 1).dtype == np.uint8  # out of range is clipped


def test_overlay_fades_with_its_opacity():
    frame = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    heat = np.linspace(0, 1, 24).reshape(4, 6)
    np.testing.assert_array_equal(overlay(frame, heat, 0.0), frame)
    full, half = (overlay(frame, heat, opacity).astype(int) - frame for opacity in (1.0, 0.5))
    np.testing.assert_allclose(half, full / 2, atol=4)


def test_heatmap_frames_lay_out_rows_and_draw_boxes():
    frames = np.zeros((5, 96, 96, 3), np.uint8)
    boxes = np.tile([10.0, 20.0, 30.0, 40.0], (5, 1))
    boxes[1] = np.nan
    image = heatmap_frames(frames, np.zeros((5, 8, 8)), boxes, columns=3)
    assert image.shape == (2 * (192 + 2 + 192) + 6, 3 * 192 + 4, 3)
    lower = image[194:386]
    assert (lower[40, 20:61] == 255).all() and (lower[80, 20:61] == 255).all()
    assert not lower[:, 194:386].any()  # no box there
    assert not heatmap_frames(frames, np.zeros((5, 8, 8))).any()


def test_curves_share_a_chart_with_their_validation():
    rows = [{"step": s, "loss": 1.0 / (s + 1), "lr": 1e-3, "skipped": 0, "top1": 0.5} for s in range(100)]
    rows += [{"step": 50, "val_loss": 0.5}, {"step": 60, "val_only": 1.0}]
    figures = training_curves(rows)
    titles = [f.axes[0].get_title(loc="left") for f in figures]
    assert titles == ["loss", "top1", "only", "lr"]
    raw, smooth, held_out = figures[0].axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), [r["loss"] for r in rows[:100]])
    np.testing.assert_allclose(smooth.get_ydata()[50], np.mean([r["loss"] for r in rows[48:53]]))
    assert held_out.get_xydata().tolist() == [[50.0, 0.5]]


def test_spectrogram_shows_a_tone_at_its_pitch_and_level():
    rate = 16000
    t = np.arange(2 * rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 3000 * t)
    image = spectrogram(np.stack([tone, tone]), rate).axes[0].images[0]
    level = np.asarray(image.get_array())
    khz = image.get_extent()[3] * (np.arange(len(level)) + 0.5) / len(level)
    middle = level[:, level.shape[1] // 2]
    assert khz[middle.argmax()] == pytest.approx(3.0, abs=0.05)
    assert middle.max() == pytest.approx(20 * np.log10(0.5), abs=0.5)
    assert tuple(image.get_extent()[:2]) == (0, 2.0)
    assert level.shape[1] <= 500
    assert spectrogram(np.zeros(10), 8000).axes  # shorter than a window


def test_offset_curve_marks_the_estimate_only_where_there_is_one():
    offsets, scores = np.linspace(-1, 1, 21), np.full(21, np.nan)
    assert len(offset_curve(offsets, scores, None).axes[0].lines) == 1
    mark = offset_curve(offsets, scores, 0.12).axes[0].lines[1]
    assert mark.get_xdata()[0] == pytest.approx(120)
    assert mark.get_label() == "+120 ms"


def test_reliability_curve_lies_beside_the_diagonal():
    axes = reliability_curve(np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.array([5, 7])).axes[0]
    assert [line.get_ydata()[-1] for line in axes.lines] == [1, 1.0]
    assert list(axes.lines[1].get_xdata()) == [0.1, 0.9]
    assert [t.get_text() for t in axes.texts] == ["5", "7"]


def test_confusion_writes_counts_and_colours_by_row():
    axes = confusion(np.array([[3, 1], [0, 0]]), ["a", "b"]).axes[0]
    assert [t.get_text() for t in axes.texts] == ["3", "1"]
    shade = np.asarray(axes.images[0].get_array())[..., 3]
    np.testing.assert_allclose(shade, 0.8 * np.array([[0.75, 0.25], [0, 0]]))


def test_png_of_arrays_and_charts(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(frame)))), frame)
    write_png(tmp_path / "x.png", offset_curve(np.arange(3), np.arange(3), 1.0))
    chart = np.asarray(Image.open(tmp_path / "x.png").convert("RGBA"))
    assert chart.shape[1] == 690 and (chart[0, 0] == 255).all()
    with pytest.raises(OutputError, match="cannot write"):
        write_png(tmp_path / "no" / "x.png", frame)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
