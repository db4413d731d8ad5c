"""Networks that see motion: filters and drawn inputs are in the colours of flow, maps lie over the frames."""

import cv2
import numpy as np
import pytest
import torch
from hand_made import Colours, classifying
from typer.testing import CliRunner

from avlearn.apply.explain.file import file_class_maps
from avlearn.apply.explain.filters import first_layers
from avlearn.apply.explain.maximize import maximise
from avlearn.apply.explain.network import Canvas, ExplainedNetwork, of_recognizer
from avlearn.apply.explain.parts import show_classes
from avlearn.apply.explain.pictures import drawn_film, filter_films, full_colour
from avlearn.cli import app
from avlearn.config import RecognizerConfig
from avlearn.media import probe, write_video
from avlearn.models import create_model
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import save_recognizer
from avlearn.report.flow_colours import flow_colours

STEPS = torch.tensor([(1.0, 0), (0, 1), (-1, 0), (0, -1), (0, 0)])  # along x and y: right, down, left, up, still


def colour_of(step: torch.Tensor) -> np.ndarray:
    """The full colour of a direction."""
    return flow_colours(step.numpy()[:, None, None], 1.0)[0, 0]


def near(pixels: np.ndarray, colour: np.ndarray) -> bool:
    return bool(np.abs(pixels.reshape(-1, 3).mean(0) - colour).max() < 40)


@pytest.mark.parametrize(("name", "options", "frames"), [("temporal_r50", {}, 10), ("x3d_xs", {"in_chans": 10}, 12)])
def test_filters_of_stacks_are_the_kernels_as_films_of_flow(name, options, frames):
    """Whether the stack lies along time, or as the channels x, y, x, y, ..."""
    encoder = create_model(name, **options).eval().requires_grad_(False)
    canvas = Canvas((2, frames, 32, 32), 12.5)
    (layer,) = first_layers(ExplainedNetwork("", None, {"video": encoder}, {"video": canvas}), "video")
    kernels = encoder.get_submodule(layer.name).weight / encoder.std.view(1, -1, 1, 1, 1)
    if encoder.in_chans == 10:
        kernels = kernels[:, :, 0].unflatten(1, (5, 2)).transpose(1, 2)
    assert kernels.shape[1:3] == (2, 5)
    torch.testing.assert_close(layer.kernels, kernels, atol=1e-5, rtol=1e-4)


def test_filters_and_drawn_inputs_have_the_hue_of_their_direction():
    assert len({tuple(colour_of(step)) for step in STEPS}) == 5 and (colour_of(STEPS[4]) == 255).all()
    kernels = STEPS[:, :, None, None, None].expand(-1, -1, 1, 8, 8)
    sheet = filter_films(kernels)[0]
    tiles = [sheet[top : top + 56, left : left + 56] for top in (0, 62) for left in (0, 62, 124)]
    for step, tile in zip(STEPS, tiles, strict=False):
        assert near(tile, colour_of(step))
        drawn = (0.5 + step / 10)[:, None, None, None].expand(2, 3, 32, 32)
        assert near(drawn_film([drawn]), colour_of(step)) and full_colour(drawn) == pytest.approx(
            4 * float(step.norm())
        )
        both = torch.cat([torch.full((3, 3, 32, 32), 0.5), drawn])
        grey, flow = np.split(drawn_film([both]), 2, axis=1)
        assert near(grey, np.full(3, 128)) and near(flow, colour_of(step))


def test_what_a_class_of_motion_would_like_is_drawn_in_its_colour(tmp_path):
    weights = torch.tensor([[0.0, 1, 0, 1], [0, -1, 0, -1]])
    network = classifying(Colours(in_chans=4), weights, ("down", "up"), (2, 4, 16, 16))
    inputs = maximise(network, "video", 0, 30).inputs
    down, up = colour_of(STEPS[1]), colour_of(STEPS[3])
    assert near(drawn_film([inputs["slow"]]), down)
    shown = show_classes(network, tmp_path, [0, 1], 30, lambda *_: None)
    assert f"full colour of flow: slow {full_colour(inputs['slow']):.1f}, fast " in shown[0].caption
    assert near(shown[0].picture, down) and near(shown[1].picture, up)


class Motions(Colours):
    """Means of motion, 20 pixels being 20."""

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward_features((x - 0.5) * 40)


def test_the_map_of_a_motion_lies_where_the_frames_show_it(tmp_path):
    """Two squares before a still ground, all textured: one goes right, one left."""
    noise = np.random.default_rng(0).normal(0, 1, (96, 144, 3))
    texture = cv2.GaussianBlur(noise, (0, 0), 1)
    texture = np.clip(128 + 60 * texture / texture.std(), 0, 255).astype(np.uint8)
    frames = np.stack([texture[:, :96]] * 20)
    for t, frame in enumerate(frames):
        frame[12:36, 10 + 2 * t : 34 + 2 * t] = texture[:24, 96:120]
        frame[60:84, 60 - 2 * t : 84 - 2 * t] = texture[:24, 120:]
    write_video(tmp_path / "two.mp4", frames, 12.5, crf=10)
    config = RecognizerConfig(
        inputs="video", video="x3d_xs", video_options={"in_chans": 2}, labels=("right", "left"), size=96, seconds=1.6,
        fps=12.5,
    )  # fmt: skip
    model = Recognizer(config)
    model.video = classifying(
        Motions(in_chans=2), torch.tensor([[1.0, 0], [-1, 0]]), config.labels, (2, 20, 96, 96)
    ).encoders["video"]
    right, left = file_class_maps(tmp_path / "two.mp4", of_recognizer(model.eval()), [0, 1]).video
    assert right.shape == (20, 12, 12)
    for maps, row, column in ((right, 3, lambda t: 22 + 2 * t), (left, 9, lambda t: 72 - 2 * t)):
        for t in range(2, 18):
            y, x = np.unravel_index(maps[t].argmax(), maps[t].shape)
            assert abs(y + 0.5 - row) <= 1.5 and abs(8 * (x + 0.5) - column(t)) <= 12
    assert right[:, 8:].max() < 0.2 and left[:, :4].max() < 0.2


@pytest.mark.parametrize(
    ("encoder", "options", "films"),
    [
        ("x3d_xs", {"in_chans": 2}, {"filters_video.png"}),
        ("two_stream_r50", {}, {"filters_video.png", "filters_video_2.mp4"}),
    ],
    ids=["flow", "frames and flow"],
)
def test_a_page_says_how_to_read_the_colours_of_motion(tmp_path, encoder, options, films):
    config = RecognizerConfig(
        inputs="video", video=encoder, video_options=options, labels=("a", "b"), size=32, seconds=0.8, fps=12.5
    )
    save_recognizer(Recognizer(config).eval(), tmp_path / "model", "# untrained\n")
    noise = np.random.default_rng(0).integers(0, 255, (10, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "v.mp4", noise, 12.5)
    words = [tmp_path / "model", tmp_path / "v.mp4", "--steps", 1, "-o", tmp_path / "out", "--device", "cpu"]
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    of_classes = {f"{part}_video_{label}.mp4" for part in ("class", "gradcam") for label in ("0_a", "1_b")}
    assert names == films | of_classes | {"explained.html"}
    seen = probe(tmp_path / "out" / "gradcam_video_0_a.mp4").video
    assert (seen.width, seen.height) == (48, 32)
    page = (tmp_path / "out" / "explained.html").read_text()
    assert "Of optical flow, white does not move" in page and "full colour of flow: slow " in page
    assert "64 filters; 1 frame of 7 x 7" in page or encoder == "x3d_xs"
