"""What a model knows, and what it has not seen."""

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual, ModelConfig, load, save
from avlearn.models.familiarity import Familiarity, describe_audio, describe_video
from avlearn.models.weights.checkpoint import write_tensors


def windows(clips, each, seed, rank=4, values=40):
    """Descriptions that lie near a plane, windows of a clip near each other: ``[clips * each, values]`` and clips."""
    plane = torch.randn(rank, values, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    middles = torch.randn(clips, 1, rank, generator=random) + 0.2 * torch.randn(clips, each, rank, generator=random)
    noise = 0.1 * torch.randn(clips * each, values, generator=random)
    return middles.flatten(0, 1) @ plane + noise, torch.arange(clips).repeat_interleave(each)


def share_known(familiarity, described, each):
    return sum(familiarity.knows(clip) for clip in described.split(each)) / (len(described) / each)


def test_before_it_has_met_anything_it_does_not_know():
    assert Familiarity(5).knows(torch.zeros(2, 5)) is None
    one = Familiarity(5)
    one.fit(torch.randn(4, 5), torch.zeros(4))  # windows of a single clip
    assert one.knows(torch.zeros(2, 5)) is None


@pytest.mark.parametrize("clips", [3, 10, 200])
def test_it_knows_held_out_clips_and_not_those_off_the_plane(clips):
    familiarity = Familiarity(40)
    familiarity.fit(*windows(clips, 4, 1))
    held, _ = windows(100, 4, 2)
    assert share_known(familiarity, held, 4) >= (0.94 if clips > 3 else 0.7)
    # Each value alone is as usual: what is unusual is how they go together.
    shuffled = torch.stack([held[torch.randperm(len(held)), k] for k in range(held.shape[1])], 1)
    if clips > 3:
        assert share_known(familiarity, shuffled, 4) <= 0.05


def test_a_description_tells_a_varied_sound_from_a_constant_one_and_sees_that_a_picture_is_still():
    heard = torch.randn(2, 6, 25)
    described = describe_audio(heard)
    assert described.shape == (2, 12)
    constant = describe_audio(heard.mean(2, keepdim=True).expand(-1, -1, 25))
    torch.testing.assert_close(constant[:, :6], described[:, :6])
    assert (constant[:, 6:] < 1e-5).all() and (described[:, 6:] > 0.5).all()
    moving = torch.randint(0, 256, (1, 10, 16, 16, 3), dtype=torch.uint8)
    places = torch.randn(1, 6, 5, 2, 2)
    still = describe_video(places, moving[:, :1].expand(-1, 10, -1, -1, -1))
    assert still[0, -1] < describe_video(places, moving)[0, -1] - 2
    assert describe_video(places, moving[:, :1]).isfinite().all()  # of one frame


def test_statistics_are_kept_with_the_model_and_those_of_old_folders_are_left(tmp_path):
    model = AudioVisual(ModelConfig()).eval()
    model.familiar["audio"].fit(*windows(5, 4, 0, values=len(model.familiar["audio"].mean)))
    save(model, tmp_path / "new", "# new\n")
    again = load(tmp_path / "new")
    assert again.familiar["audio"].limit == model.familiar["audio"].limit > 0
    assert again.familiar["video"].limit == 0
    for kind, channels in (("video", 128), ("audio", 128)):
        old = torch.nn.Module()
        for name, value in (
            ("mean", torch.zeros(channels)),
            ("deviation", torch.ones(channels)),
            ("limit", torch.ones(())),
        ):
            old.register_buffer(name, value)
        model.familiar[kind] = old
    write_tensors(model, tmp_path / "new" / "model.safetensors")
    assert load(tmp_path / "new").familiar["audio"].knows(torch.zeros(1, 256)) is None


@pytest.mark.parametrize(("name", "value"), [("mean", float("nan")), ("scale", 0.0), ("limit", -1.0)])
def test_statistics_that_make_no_sense_are_refused_by_name(tmp_path, name, value):
    model = AudioVisual(ModelConfig()).eval()
    getattr(model.familiar["video"], name).fill_(value)
    save(model, tmp_path / "bad", "# bad\n")
    with pytest.raises(ModelError, match=f"familiar.video.{name}"):
        load(tmp_path / "bad")
