"""`localize --model NAME`: a released localizer in place of our model, from its file on the net to the overlay."""

import io
import json

import numpy as np
import pytest
import torch
from flash_networks import FPS, RATE
from released_names import released_shapes, with_released_names
from small_denseav import denseav_tensors
from typer.testing import CliRunner

from avlearn.apply import released_systems as systems
from avlearn.apply.localize.file import localize_file
from avlearn.cli import app
from avlearn.errors import ModelError
from avlearn.media import read_clip, write_video
from avlearn.models.released import localizers
from avlearn.models.released.localize_systems import LocalizerSystem
from avlearn.models.released.localizers import Localizer, localizer_spectrogram, prepare_image

LIGHT = (200, 30, 30)


class Brightest:
    """Finds the sound where it is bright, and tells what it was given."""

    title, device, sample_rate, seconds, hop = "Stand-in", torch.device("cpu"), 16000, 2.0, 0.5

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], int, float]] = []

    def localize_window(self, frame, audio):
        self.seen.append((frame.shape, audio.shape[1], float(audio.abs().max())))
        light = torch.from_numpy(frame).float().mean(2)
        return torch.nn.functional.adaptive_avg_pool2d(light[None, None], (4, 6))[0, 0] / 50


def film(path, seconds: float, loud=lambda t: t < 100):
    """A light at the left for half of the time, then at the right; 96 x 144 pixels."""
    frames = np.full((round(seconds * FPS), 96, 144, 3), 20, np.uint8)
    frames[: len(frames) // 2, 24:48, 0:24] = LIGHT
    frames[len(frames) // 2 :, 24:48, 120:144] = LIGHT
    time = np.arange(round(seconds * RATE)) / RATE
    audio = (0.3 * np.sin(2 * np.pi * 500 * time) * loud(time)).astype(np.float32)[None]
    write_video(path, frames, FPS, audio=audio, sample_rate=RATE)
    return path


def test_the_result_the_maps_and_the_overlay_are_those_of_our_model(tmp_path):
    system = Brightest()
    path = film(tmp_path / "a.mp4", 6.0)
    found = localize_file(path, system, tmp_path / "heat.mp4", sources=True)
    assert (found.verdict, found.system, found.audible, found.calibrated) == (
        "this model cannot tell", "Stand-in", None, False,
    )  # fmt: skip
    assert found.text().startswith(
        f"{path}: this model cannot tell: Stand-in says where, and not whether: it finds a place for every sound; "
        "its map is strongest at "
    )
    assert "pretrain" not in found.text()
    times = [window["time"] for window in found.windows]
    assert times == [0.5 * number for number in range(len(times))] and times[-1] >= 5.0
    assert [window["peak"][0] < 0.5 for window in found.windows] == [time < 3.0 for time in times]
    assert all(window["peak"][1] == 0.375 for window in found.windows)
    assert {(shape, samples) for shape, samples, _ in system.seen} == {((96, 144, 3), 32000)}
    told = json.loads(json.dumps(found.to_dict()))
    assert told["schema"] == "avlearn.localize/2" and told["system"] == "Stand-in"
    arrays = np.load(tmp_path / "heat.npz")
    assert arrays["maps"].shape == (len(times), 4, 6) and np.isnan(arrays["audible"]).all()
    assert len(found.sources) == 2
    drawn, plain = (read_clip(file).video.astype(int) for file in (tmp_path / "heat.mp4", path))
    assert len(drawn) == 150
    changed = np.abs(drawn - plain).mean((0, 3))
    assert changed[24:48, :24].mean() > 2 * changed[60:].mean()


def test_silence_is_not_drawn_and_short_files_are_heard_as_they_are(tmp_path):
    half = localize_file(film(tmp_path / "a.mp4", 6.0, lambda t: t < 3), Brightest(), tmp_path / "a_heat.mp4")
    silent = [window["silent"] for window in half.windows]
    assert silent[0] is False and silent[-1] is True
    mute = localize_file(film(tmp_path / "b.mp4", 3.0, lambda t: t < 0), Brightest(), tmp_path / "b_heat.mp4")
    assert (mute.verdict, mute.reason) == ("silent", "the audio track is silent")
    short = Brightest()
    localize_file(film(tmp_path / "c.mp4", 0.6), short, tmp_path / "c_heat.mp4")
    assert [samples for _, samples, _ in short.seen] == [16000, 16000], "as long as two frames last"


@pytest.mark.parametrize("paper", ["EZ-VSL", "SSLalignment"])
def test_a_localizer_sees_and_hears_what_its_evaluator_gives_it(paper):
    model = Localizer(16 if paper == "SSLalignment" else 32, int(paper == "EZ-VSL"), paper).eval()
    system = LocalizerSystem(model, paper)
    assert system.seconds == 3.0 and system.hop == 0.75
    frame = torch.randint(0, 255, (120, 160, 3), dtype=torch.uint8).numpy()
    audio = torch.randn(1, 48000) / 10
    heat = system.localize_window(frame, audio)
    image = prepare_image(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255, paper)
    around = torch.cat([torch.randn(1, 56000), audio, torch.randn(1, 56000)], 1)  # a file of 10 s
    with torch.no_grad():
        expected = model.heatmap(image, localizer_spectrogram(around if paper == "SSLalignment" else audio, paper))[0]
    torch.testing.assert_close(heat, expected)


def test_lvs_sees_all_of_a_wide_frame():
    system = LocalizerSystem(Localizer(16, 0, "LVS").eval(), "LVS")
    assert (system.seconds, system.hop) == (10.0, 1.0)
    assert system.localize_window(np.zeros((120, 240, 3), np.uint8), torch.zeros(1, 16000)).shape == (14, 28)


def file_of(model: Localizer, file: str) -> bytes:
    """As released, with what is in such files besides."""
    named = with_released_names(model.state_dict(), file, localizers._names)
    rest = {name: torch.zeros(shape) for name, shape in released_shapes(file).items() if name not in named}
    data = io.BytesIO()
    torch.save({"model": {f"module.{name}": tensor for name, tensor in {**rest, **named}.items()}}, data)
    return data.getvalue()


def test_from_the_name_to_the_overlay(published, server, tmp_path):
    model = Localizer().eval()
    system = published("ezvsl", file_of(model, "ezvsl"))
    path = film(tmp_path / "a.mp4", 3.2)
    words = ["localize", str(path), "--model", "ezvsl", "-o", str(tmp_path / "heat.mp4"), "--json", "-"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout)
    assert (found["system"], found["audible"]) == ("EZ-VSL", None)
    maps = np.load(tmp_path / "heat.npz")["maps"]
    clip = read_clip(path, fps=4 / 3, sample_rate=16000, mono=True)
    direct = LocalizerSystem(model, "EZ-VSL").localize_window(clip.video[2], torch.from_numpy(clip.audio[:, :48000]))
    np.testing.assert_allclose(maps[2], direct.numpy(), atol=1e-4)
    assert server.asked == ["/ezvsl/best.pth"] and (system.folder / "best.pth").is_file()
    published("slavc", file_of(model, "ezvsl"))
    with pytest.raises(ModelError, match=r"best\.pth holds EZ-VSL, not SLAVC"):
        systems.localize_model("slavc")


def test_what_takes_a_browser_is_said_before_anything_is_read(server, tmp_path):
    path = film(tmp_path / "a.mp4", 1.0)
    done = CliRunner().invoke(app, ["localize", str(path), "--model", "slavc", "-o", str(tmp_path / "heat.mp4")])
    assert isinstance(done.exception, ModelError)
    assert "SLAVC needs best.pth, which takes a browser: get it from https://drive.google.com/" in str(done.exception)
    assert str(done.exception).endswith(f"put it into {tmp_path / 'cache' / 'checkpoints' / 'slavc'}")


def test_from_the_name_to_the_overlay_of_denseav(published, server, tmp_path):
    data = io.BytesIO()
    torch.save({"state_dict": denseav_tensors(), "hyper_parameters": {"sim_agg_heads": 2}, "epoch": 3}, data)
    published("denseav", data.getvalue())
    path = film(tmp_path / "a.mp4", 1.2)
    found = localize_file(path, systems.localize_model("denseav"), tmp_path / "heat.mp4")
    assert (found.system, found.verdict, found.audible) == ("DenseAV", "this model cannot tell", None)
    assert np.load(tmp_path / "heat.npz")["maps"].shape[1:] == (28, 42)
