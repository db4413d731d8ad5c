"""The two-tower model and its folder."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avlearn.config import ModelConfig, Separator, Spectrogram
from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save
from avlearn.models.named import model_folder


def test_towers_meet_on_one_clock(untrained):
    model = load(untrained)
    with torch.inference_mode():
        video, audio = model(torch.rand(2, 3, 50, 64, 64), torch.randn(2, 32000) * 0.1)
    assert video.shape == (2, 128, 25, 8, 8)
    assert audio.shape == (2, 128, 25)
    assert torch.allclose(video.norm(dim=1), torch.ones(2, 25, 8, 8), atol=1e-4)
    assert torch.allclose(audio.norm(dim=1), torch.ones(2, 25), atol=1e-4)


def test_a_step_of_audio_answers_to_its_own_eighty_milliseconds(untrained):
    """A click in the middle of step u changes step u most."""
    model = load(untrained)
    click = torch.zeros(1, 32000)
    step = 12
    middle = round((step + 0.5) * 0.08 * 16000)
    click[:, middle - 20 : middle + 20] = 0.9
    with torch.inference_mode():
        change = model.audio_features(click) - model.audio_features(torch.zeros(1, 32000))
    assert int(change.square().sum(1).argmax()) == step


def test_a_step_of_video_is_centred_on_every_second_frame(untrained):
    """A flash at frame 2 i changes steps i - k and i + k alike, to within the temporal convolutions."""
    model = load(untrained)
    still = torch.full((1, 3, 50, 64, 64), 0.5)
    flash = still.clone()
    flash[:, :, 24] += 0.4
    with torch.inference_mode():
        change = model.video_features(flash) - model.video_features(still)
    assert int(change.square().sum((0, 1, 3, 4)).argmax()) == 12


def test_different_clocks_are_refused():
    with pytest.raises(ModelError, match="different clocks"):
        AudioVisual(ModelConfig(fps=30.0))


def test_audio_is_brought_to_the_clock_of_the_video():
    """A step of video lasts 0.1 s at 20 frames a second, one of audio 0.08: a click lies where it is heard."""
    model = AudioVisual(ModelConfig(fps=20.0, resample=True)).eval()
    click = torch.zeros(1, 32000)
    click[:, 16000 + 800] = 0.9  # at 1.05 s, in step 10 of the video and 13 of the audio
    with torch.inference_mode():
        change = model.audio_features(click) - model.audio_features(torch.zeros(1, 32000))
    assert change.shape == (1, 128, 20)
    assert int(change.square().sum(1).argmax()) == 10


def test_segments_are_seen_and_heard_alone():
    model = AudioVisual(ModelConfig(segment=0.64)).eval()
    video, audio = torch.rand(1, 3, 40, 32, 32), torch.randn(1, 25600) * 0.1  # 1.6 s: two segments and a half
    with torch.inference_mode():
        seen, heard = model.video_features(video), model.audio_features(audio)
        alone = model.video.forward_features(video[:, :, 16:32]), model.audio_features(audio[:, 10240:20480])
        other = model.video_features(video[:, :, :36]), model.audio_features(audio[:, :23040])
    assert (seen.shape[2], heard.shape[2]) == (20, 20)
    assert torch.allclose(seen[:, :, 8:16], alone[0], atol=1e-5)
    assert torch.allclose(heard[:, :, 8:16], alone[1], atol=1e-5)
    assert (other[0].shape[2], other[1].shape[2]) == (18, 18)
    assert torch.allclose(other[0][:, :, :16], seen[:, :, :16], atol=1e-5)


def test_samples_and_their_encoder_meet_the_video():
    config = ModelConfig(
        audio="waveform_multisensory", audio_options={"in_chans": 1}, sample_rate=21000, resample=True,
        spectrogram=Spectrogram(kind="waveform"),
    )  # fmt: skip
    with torch.inference_mode():
        video, audio = AudioVisual(config).eval()(torch.rand(1, 3, 50, 32, 32), torch.randn(1, 42000) * 0.1)
    assert (video.shape[2], audio.shape[2]) == (25, 25)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 30.0, "resample": True}, r"model\.resample: a step lasts 1066\.67 samples"),
        ({"segment": 0.6}, r"model\.segment: 0\.6 s is no whole number of steps of 0\.08 s"),
        (
            {"spectrogram": Spectrogram(kind="log_linear", bins=100)},
            r"model\.spectrogram: 257 bins do not make 100 bands",
        ),
        (
            {"spectrogram": Spectrogram(hop=0.1)},
            r"model\.spectrogram: a hop of 1600 samples does not go with n_fft",
        ),
        ({"seconds": 0.04}, r"model\.seconds: 0\.04 s is shorter than a step of dsconv_tiny, 0\.08 s at 25 frames"),
        ({"segment": 600.0}, r"model\.segment: 600 s at 25 frames a second of 64 x 64 have 61 million pixels"),
        ({"size": 1024}, r"model\.seconds: 2 s at 25 frames a second of 1024 x 1024 have 52 million .*: lower seconds"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    with pytest.raises(ModelError, match=said):
        AudioVisual(ModelConfig(**options))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Separator(mask="complex"), "complex takes scale=linear"),
        (lambda: Separator(hop=0.05), "longer than half the window"),
        (lambda: ModelConfig(size=10**8), "size"),
        (lambda: ModelConfig(labels=("a",) * 10_001), "labels"),
        (lambda: Spectrogram(hop=float("nan")), "hop"),
        (lambda: ModelConfig(sise=64), "sise"),
    ],
)
def test_a_declaration_holds_what_it_says(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_changed_copies_are_checked_where_a_model_is_built():
    with pytest.raises(ModelError, match=r"model: size: Input should be less than or equal to 1024"):
        AudioVisual(ModelConfig().model_copy(update={"size": 10**8}))


def test_a_folder_brings_back_the_same_numbers(untrained):
    first, second = load(untrained), load(untrained)
    x, s = torch.rand(1, 3, 20, 64, 64), torch.randn(1, 12800)
    with torch.inference_mode():
        for a, b in zip(first(x, s), second(x, s), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["no weights", "cut weights", "other format", "not json"])
def test_a_damaged_folder_is_refused_in_one_line(untrained, tmp_path, damage):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((untrained / name).read_bytes())
    if damage == "no weights":
        (tmp_path / "model.safetensors").unlink()
    elif damage == "cut weights":
        (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    elif damage == "other format":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "format": "other/9"}))
    else:
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def written(folder: Path, values: object, weights: dict | None = None) -> Path:
    """A model folder of such a configuration, with weights of the default one where they are not given."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    if weights is None:
        (folder / "model.safetensors").write_bytes((model_folder("default") / "model.safetensors").read_bytes())
    else:
        save_file(weights, folder / "model.safetensors")
    return folder


def refused(folder: Path, said: str, name: str = "config.json") -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1 and str(folder) in str(caught.value)
    assert name in str(caught.value)


DEFAULT = json.loads((model_folder("default") / "config.json").read_text())


@pytest.mark.parametrize("content", ["null", "5", "[]", '"a"', "[" * 100_000, "{}", '{"format": 5}', " " * 2**21])
def test_what_is_no_configuration(tmp_path, content):
    refused(written(tmp_path / "a", content), "config.json")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("fps", [0, -1, 1e9, "25", None, True, [25], float("nan"), float("inf"), 1e-300]),
        ("size", [0, -3, 10**8, 64.5, "64"]),
        ("sample_rate", [0, -16000, 10**12]),
        ("seconds", [0, -2, 1e9]),
        ("segment", [0, 1e9, "all"]),
        ("dim", [0, 10**9]),
        ("video", [5, "", "none", "x" * 10_000, "conv2d_tiny"]),
        ("audio", ["dsconv_tiny"]),
        ("labels", ["ball", [5], ["a"] * 20_000, ["x" * 5000]]),
        ("video_mean", [[0.5], [0.5, 0.5, float("nan")], 5]),
        ("video_std", [[0, 0, 0]]),
        ("separator", [5, [], {"window": 0}, {"hop": -1}, {"channels": [1]}, {"channels": [10**6] * 5}, {"mask": "x"}]),
        ("spectrogram", [5, {"n_fft": 0}, {"n_fft": 10**9}, {"hop": 0}, {"kind": "x"}, {"bins": 1}, {"std": 0}]),
        ("another", [1]),
    ],
)
def test_every_key_has_its_type_and_bounds(tmp_path, key, values):
    for value in values:
        given = {**DEFAULT[key], **value} if isinstance(value, dict) else value
        refused(written(tmp_path / "a", {**DEFAULT, key: given}), key if key != "another" else "Extra inputs", "")


@pytest.mark.parametrize(
    ("video", "options", "said"),
    [
        ("dsconv_tiny", {"weights": "http://127.0.0.1:9/a.pth"}, "no option 'weights'"),
        ("r2plus1d_18", {"weights": "/etc/passwd"}, "no option 'weights'"),
        ("r2plus1d_18", {"num_classes": 10**9}, "no option 'num_classes'"),
        ("r2plus1d_18", {"in_chans": 10**9}, "option 'in_chans' is out of all bounds"),
        ("r2plus1d_18", {"in_chans": "3"}, "option 'in_chans': Input should be a valid integer"),
        ("r2plus1d_18", {"mid_width": "x"}, "option 'mid_width': Input should be"),
        ("r2plus1d_18", {"eps": float("nan")}, "option 'eps' is out of all bounds"),
        ("r2plus1d_18", {"temporal_stride": 0}, "r2plus1d_18"),
        ("c2d_nl_r50", {"nonlocal_pool": [0, 0, 0]}, "option 'nonlocal_pool' is out of all bounds"),
        ("c2d_nl_r50", {"nonlocal_pool": {"a": 1}}, "option 'nonlocal_pool' is out of all bounds"),
        ("r3d_34", {}, "tensors are missing"),  # 64 million parameters, of which the file has none
    ],
)
def test_options_are_of_the_architecture_alone(tmp_path, monkeypatch, video, options, said):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("an address was opened"))
    refused(written(tmp_path / "a", {**DEFAULT, "video": video, "video_options": options, "resample": True}), said, "")


def test_weights_of_a_folder_are_held_to_its_model(tmp_path):
    weights = load_file(model_folder("default") / "model.safetensors")
    bias = "video_head.bias"
    for changed, said in (
        ({**weights, bias: torch.full((128,), float("nan"))}, f"{bias} holds numbers that are not finite"),
        ({**weights, bias: torch.ones(127)}, rf"{bias} has the shape \[127\]"),
        ({**weights, "more": torch.ones(1)}, "1 tensors have no place in the model; the first is more"),
        ({name: weights[name] for name in weights if name != bias}, f"1 tensors are missing; the first is {bias}"),
    ):
        refused(written(tmp_path / "a", DEFAULT, changed), said, "model.safetensors")


@pytest.mark.parametrize("name", ["sync.json", "localize.json", "separate.json", "separate_quality.json"])
@pytest.mark.parametrize(
    "content",
    ["[]", '"text"', "null", "{}", '{"format": "avlearn.confidence/1"}',
     '{"format": "avlearn.confidence/1", "weights": [], "bias": 0}',
     '{"format": "avlearn.confidence/1", "weights": {"fit": NaN}, "bias": 0}',
     '{"format": "avlearn.confidence/1", "weights": {"fit": 1e400}, "bias": 0}',
     '{"format": "avlearn.confidence/1", "weights": {"fit": 1}, "bias": "0"}'],
)  # fmt: skip
def test_calibrations_are_held_to_theirs(tmp_path, name, content):
    folder = written(tmp_path / "a", DEFAULT)
    (folder / name).write_text(content)
    refused(folder, name, name)


def test_a_pipe_in_a_model_folder_is_not_waited_for(tmp_path):
    save(AudioVisual(ModelConfig()).eval(), tmp_path, "# a card\n")
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="there is no weight file"):
        load(tmp_path)
