"""In-distribution statistics, and where they lie."""

from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from avlearn.config import ModelConfig, Separator
from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save
from avlearn.models.in_distribution import FILE, InDistribution, describe_audio, describe_video
from avlearn.models.named import model_folder
from avlearn.models.weights.checkpoint import write_tensors


def windows(clips, each, seed, rank=4, values=40):
    """Descriptions that lie near a plane, windows of a clip near each other: ``[clips * each, values]`` and clips."""
    plane = torch.randn(rank, values, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    middles = torch.randn(clips, 1, rank, generator=random) + 0.2 * torch.randn(clips, each, rank, generator=random)
    noise = 0.1 * torch.randn(clips * each, values, generator=random)
    return middles.flatten(0, 1) @ plane + noise, torch.arange(clips).repeat_interleave(each)


def share_inside(statistics, described, each):
    return sum(statistics.contains(clip) for clip in described.split(each)) / (len(described) / each)


def test_one_clip_is_too_few_for_statistics():
    assert InDistribution.fit(torch.randn(4, 5), torch.zeros(4)) is None


@pytest.mark.parametrize("clips", [3, 10, 200])
def test_held_out_clips_are_inside_and_those_off_the_plane_are_not(clips):
    statistics = InDistribution.fit(*windows(clips, 4, 1))
    held, _ = windows(100, 4, 2)
    assert share_inside(statistics, held, 4) >= (0.94 if clips > 3 else 0.7)
    # Each value alone is as usual: what is unusual is how they go together.
    shuffled = torch.stack([held[torch.randperm(len(held)), k] for k in range(held.shape[1])], 1)
    if clips > 3:
        assert share_inside(statistics, shuffled, 4) <= 0.05


def test_a_description_tells_varied_audio_from_constant_audio_and_sees_that_a_video_is_still():
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


def measured() -> AudioVisual:
    """A model with statistics of both kinds."""
    model = AudioVisual(ModelConfig()).eval()
    for kind, values in (("video", 257), ("audio", 256)):
        model.in_distribution[kind] = InDistribution.fit(*windows(5, 4, 0, values=values))
    return model


def former_tensors(model: AudioVisual) -> dict[str, torch.Tensor]:
    """The weights as folders of before have them, statistics among them."""
    tensors = model.state_dict()
    for kind, found in model.in_distribution.items():
        tensors |= {f"familiar.{kind}.{field.name}": getattr(found, field.name) for field in fields(found)}
    return tensors


def test_statistics_lie_beside_the_weights(tmp_path):
    model = measured()
    del model.in_distribution["video"]
    save(model, tmp_path, "# new\n")
    assert not any("distribution" in name or "familiar" in name for name in load_file(tmp_path / "model.safetensors"))
    again = load(tmp_path).in_distribution
    assert again.keys() == {"audio"}
    for field in fields(InDistribution):
        assert torch.equal(getattr(again["audio"], field.name), getattr(model.in_distribution["audio"], field.name))
    model.in_distribution = {}
    save(model, tmp_path, "# without\n")
    assert load(tmp_path).in_distribution == {}


def test_statistics_of_folders_of_before_are_found_among_the_weights(tmp_path):
    model = measured()
    save(model, tmp_path, "# old\n")
    (tmp_path / FILE).unlink()
    write_tensors(former_tensors(model), tmp_path / "model.safetensors")
    again = load(tmp_path).in_distribution
    described = torch.randn(3, 257)
    assert torch.equal(again["video"].distance(described), model.in_distribution["video"].distance(described))
    model.in_distribution["video"].limit.fill_(0)  # was not measured
    write_tensors(former_tensors(model), tmp_path / "model.safetensors")
    assert load(tmp_path).in_distribution.keys() == {"audio"}
    oldest = {f"familiar.{kind}.deviation": torch.ones(128) for kind in ("video", "audio")}
    write_tensors({**model.state_dict(), **oldest}, tmp_path / "model.safetensors")
    assert load(tmp_path).in_distribution == {}


def test_former_statistics_of_other_features_are_not_used_and_the_model_loads(tmp_path):
    model = measured()
    model.in_distribution["audio"] = InDistribution.fit(*windows(5, 4, 0, values=320))  # the spectrum's bands as well
    save(model, tmp_path, "# old\n")
    (tmp_path / FILE).unlink()
    write_tensors(former_tensors(model), tmp_path / "model.safetensors")
    assert load(tmp_path).in_distribution.keys() == {"video"}


def test_what_the_separator_knows_of_other_sources_had_another_name(tmp_path):
    model = AudioVisual(ModelConfig(separator=Separator())).eval()
    torch.nn.init.normal_(model.separator.other_sources.weight)
    save(model, tmp_path, "# old\n")
    tensors = model.state_dict()
    former = {name.replace("separator.other_sources.", "separator.rivals."): x for name, x in tensors.items()}
    assert len(former.keys() - tensors.keys()) == 2
    write_tensors(former, tmp_path / "model.safetensors")
    checkpoint = torch.nn.ModuleDict({"model": AudioVisual(model.config)})
    checkpoint.load_state_dict({f"model.{name}": tensor for name, tensor in former.items()})  # strict
    for again in (load(tmp_path), checkpoint["model"]):
        found = again.state_dict()
        assert found.keys() == tensors.keys()
        assert all(torch.equal(tensor, found[name]) for name, tensor in tensors.items())


def test_checkpoints_of_before_have_statistics_among_the_weights():
    model = measured()
    AudioVisual(ModelConfig()).load_state_dict(former_tensors(model))  # strict


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mean", torch.full((257,), float("nan")), "not finite"),
        ("scale", torch.zeros(257), "above zero"),
        ("limit", torch.tensor(-1.0), "below zero"),
        ("directions", torch.ones(257, 3), r"not of the shape \[257, 64\]"),
        ("rest", torch.tensor(1), "not numbers in single precision"),
    ],
)
def test_statistics_that_make_no_sense_are_refused_by_name(tmp_path, name, value, said, former):
    model = measured()
    model.in_distribution["video"] = replace(model.in_distribution["video"], **{name: value})
    save(model, tmp_path, "# bad\n")
    if former:
        (tmp_path / FILE).unlink()
        write_tensors(former_tensors(model), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"video.{name} .*{said}"):
        load(tmp_path)


def test_the_default_model_is_what_it_was():
    """Its folder is of before; numbers are of the version that trained it."""
    model = load("default")
    random = torch.Generator().manual_seed(7)
    video = torch.rand(1, 3, 20, 64, 64, generator=random)
    audio = torch.randn(1, 12800, generator=random) * 0.1
    with torch.inference_mode():
        seen, heard = model(video, audio)
    wanted = [-0.102672, -0.076511, -0.077693, -0.183387, -0.121034, 0.109114]
    assert [*seen.flatten()[::40000], *heard.flatten()[::200][:3]] == pytest.approx(wanted, rel=1e-4)
    file = load_file(model_folder("default") / "model.safetensors")
    for kind in ("video", "audio"):
        for field in fields(InDistribution):
            assert torch.equal(getattr(model.in_distribution[kind], field.name), file[f"familiar.{kind}.{field.name}"])
