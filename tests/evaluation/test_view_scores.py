"""What a recognizer is shown of files, and how its scores are averaged."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avlearn.data.manifest import Row
from avlearn.data.scan import scan_folder
from avlearn.data.views import Views, clip_frames
from avlearn.errors import ModelError
from avlearn.evaluation.view_scores import score_views
from avlearn.media import write_video
from avlearn.media.frames import every_frame

FPS, SIDE, COUNT = 25, 32, 60


class Pretend:
    """A network that notes what it is given, and whose three scores are 10, 0 and the brightness of the first frame."""

    device = torch.device("cpu")

    def __init__(self, inputs="video", segments=None, frames=8, size=SIDE, fps=FPS / 2):
        self.config = SimpleNamespace(
            inputs=inputs, sees=inputs != "audio", hears=inputs != "video", segments=segments, frames=frames,
            fps=fps, size=size, sample_rate=8000, seconds=frames / fps,
        )  # fmt: skip
        self.video, self.audio, self.batches = [], [], []

    def features(self, video, audio, flow):
        self.batches.append(len(video if audio is None else audio))
        self.video += [] if video is None else list(video.mul(255).round().byte())
        self.audio += [] if audio is None else list(audio)
        found = {"video": video, "audio": audio}
        return {kind: values for kind, values in found.items() if values is not None}

    def classify(self, features):
        first = next(iter(features.values())).flatten(1)[:, :1]
        return torch.cat([torch.full_like(first, 10.0), torch.zeros_like(first), first], 1)

    def contributions(self, features):
        raise ModelError("none")

    def probabilities(self, scores):
        return scores.softmax(1)

    def seen(self) -> list[list[int]]:
        """Frames of each view, by their brightness."""
        return [[round(int(frame[0].float().mean()) / 4) for frame in view.transpose(0, 1)] for view in self.video]


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> Row:
    """A video whose frame k has the brightness 4 k, and audio that is silent in its first second alone."""
    folder = tmp_path_factory.mktemp("counted")
    frames = [np.full((SIDE, SIDE, 3), 4 * k, np.uint8) for k in range(COUNT)]
    audio = np.full((1, round(COUNT / FPS * 8000)), 0.5, np.float32)
    audio[:, :8000] = 0
    (folder / "one").mkdir()
    write_video(folder / "one" / "counted.mp4", frames, FPS, audio=audio, sample_rate=8000, crf=5)
    (row,) = scan_folder(folder)
    return row


@pytest.mark.parametrize("views", [Views("even", 3), Views("pyslowfast", 3), Views("even", 1), Views("dense")])
def test_frames_are_those_of_the_rule(counted, views):
    network = Pretend()
    list(score_views(network, [counted], views))
    expected = clip_frames(views, COUNT, 8, 2.0)
    assert network.seen() == expected.tolist()
    assert expected.max() < COUNT and len(expected) == {"dense": 3}.get(views.rule, views.clips)


def test_segments_are_spread_over_the_video(counted):
    network = Pretend(segments=8)
    list(score_views(network, [counted], Views("uniform", 2)))
    assert network.seen() == clip_frames(Views("uniform", 2), COUNT, 8, 1.0, True).tolist()


def test_frames_of_a_real_video_are_those_of_mmaction2(real_videos):
    """Frames of a file of UCF101, decoded one by one, at the places that mmaction2 has for 164 of them."""
    path = real_videos / "human-action-recognition-ucf101" / "v_ApplyEyeMakeup_g01_c01.avi"
    network = Pretend(size=240, fps=25 / 8)
    list(score_views(network, [Row(path, 0.0, 6.56, labels=("a",))], Views("mmaction2", 3, 3)))
    frames = [image for _, image in every_frame(path)]
    assert len(frames) == 164
    places = [[start + 8 * k for k in range(8)] for start in (0, 54, 107)]  # SampleFrames(8, 8, 3, test_mode=True)
    crops = [(0, 240), (40, 280), (80, 320)]
    expected = [np.stack([frames[k][:, left:right] for k in row]) for row in places for left, right in crops]
    for view, frames_of_view in zip(network.video, expected, strict=True):
        assert (view.permute(1, 2, 3, 0).numpy() == frames_of_view).all()


def test_crops_of_a_wide_video(tmp_path):
    frame = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    frame[:, :SIDE], frame[:, SIDE : 2 * SIDE], frame[:, 2 * SIDE :] = 200, 40, 120
    write_video(tmp_path / "wide.mp4", [frame] * 20, FPS)
    row = Row(tmp_path / "wide.mp4", 0.0, 20 / FPS)
    network = Pretend()
    list(score_views(network, [row], Views("even", 1, 3)))
    levels = [int(view[0].float().mean()) for view in network.video]
    assert np.allclose(levels, [200, 40, 120], atol=8)


def test_windows_of_audio_are_those_of_the_clips(counted):
    for inputs in ("audio", "both"):
        network = Pretend(inputs)
        list(score_views(network, [counted], Views("even", 3)))
        assert [len(window) for window in network.audio] == [5120] * 3
        loud = [float((window.abs() > 0.2).float().mean()) for window in network.audio]
        # From 0 s, 0.88 s and 1.76 s on; 0.64 s each.
        np.testing.assert_allclose(loud, [0.0, 0.8125, 1.0], atol=0.02)


def test_what_is_averaged(counted):
    logits = torch.tensor([[10.0, 0.0, 4 * k / 255] for k in (0, 22, 45)])
    for average, expected in (("logits", logits.mean(0)), ("probabilities", logits.softmax(1).mean(0))):
        (found,) = score_views(Pretend(), [counted], Views("even", 3), average)
        np.testing.assert_allclose(found["video"], expected, atol=0.02)


def test_a_clip_that_occurs_ten_times_is_looked_at_once(tmp_path):
    write_video(tmp_path / "short.mp4", [np.full((SIDE, SIDE, 3), 80, np.uint8)] * 6, FPS)
    network = Pretend()
    (found,) = score_views(network, [Row(tmp_path / "short.mp4", 0.0, 6 / FPS)], Views("even", 10))
    assert network.batches == [1]
    assert found["video"].sum() == pytest.approx(1.0)


def test_a_header_may_say_a_few_frames_too_many(counted):
    network = Pretend()
    row = Row(counted.path, 0.5, COUNT / FPS - 0.5 + 2 / FPS)  # no whole file: its length is taken at its word
    (found,) = score_views(network, [row], Views("even", 3))
    assert isinstance(found, dict)
    assert network.seen()[-1][-1] == COUNT - 1


def test_files_that_cannot_be_read_are_told_and_others_go_on(counted, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    silent = tmp_path / "silent.mp4"
    write_video(silent, [np.zeros((SIDE, SIDE, 3), np.uint8)] * 30, FPS)
    rows = [Row(broken, 0.0, 1.0), counted, Row(silent, 0.0, 1.2), Row(tmp_path / "gone.mp4", 0.0, 1.0, bytes=9)]
    found = list(score_views(Pretend("both"), rows, Views("even", 2)))
    assert [type(one).__name__ for one in found] == ["str", "dict", "str", "str"]
    assert "no audio" in found[2]
    assert "gone" in found[3]


def test_shares_of_video_and_audio_are_told_where_a_network_adds_them_up(counted):
    network = Pretend("both")
    assert next(score_views(network, [counted], Views("even", 1))).keys() == {"both"}
    network.contributions = lambda features: {kind: torch.zeros(1, 3) for kind in ("video", "audio")}
    found = next(score_views(network, [counted], Views("even", 1)))
    np.testing.assert_allclose(found["video"], [1 / 3] * 3, rtol=1e-6)
    assert found.keys() == {"both", "video", "audio"}
