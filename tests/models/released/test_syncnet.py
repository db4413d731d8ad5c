"""SyncNet: what its embeddings see, the search for an offset that is known, and its released file."""

import pytest
import torch
from released_names import released_shapes
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.models.released.syncnet import SyncNet, lip_sync, lip_sync_of_parts, load_syncnet


@pytest.fixture(scope="module")
def model() -> SyncNet:
    torch.manual_seed(0)
    net = SyncNet()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
    return net.eval()


def released(net: SyncNet) -> dict[str, Tensor]:
    """Its tensors by the names of the file: those of layers alone."""
    return {name.partition(".")[2]: tensor for name, tensor in net.state_dict().items()}


@torch.no_grad()
def test_an_embedding_is_of_a_fifth_of_a_second(model):
    """Each alone, by the layers themselves, gives the same as all at once."""
    video, mfcc = torch.rand(1, 3, 7, 224, 224), torch.randn(1, 1, 13, 27)
    seen, heard = model(video, mfcc)
    assert seen.shape == heard.shape == (1, 2, 1024)
    blue_first = video[:, [2, 1, 0]] * 255
    for i in range(2):
        lips = model.video.netcnnlip(blue_first[:, :, i : i + 5]).flatten(1)
        voice = model.audio.netcnnaud(mfcc[..., 4 * i : 4 * i + 20]).flatten(1)
        for found, alone in ((seen, model.video.netfclip(lips)), (heard, model.audio.netfcaud(voice))):
            assert (found[:, i] - alone).abs().max() < 1e-5 * alone.abs().max()
    # Frames that have no audio are left out.
    assert model(video, mfcc[..., :23])[0].shape == (1, 1, 1024)


def test_pictures_of_another_size_are_refused(model):
    with pytest.raises(ValueError, match=r"224 x 224 pixels, not \(96, 96\)"):
        model(torch.rand(1, 3, 5, 96, 96), torch.rand(1, 1, 13, 20))


@pytest.mark.parametrize("lead", [-15, -6, 0, 1, 13])
def test_a_known_offset_is_found(lead):
    """The audio of window i is `lead` windows earlier: the audio leads where that is positive."""
    torch.manual_seed(0)
    windows = 100
    video, audio = torch.randn(windows, 64), torch.randn(windows, 64)
    for i in range(windows):
        if 0 <= i - lead < windows:
            audio[i - lead] = video[i] + 0.1 * torch.randn(64)
    found = lip_sync(video, audio)
    assert found.offset == lead / 25
    assert found.distances.argmin() == lead + 15


def test_errors_by_their_definition():
    torch.manual_seed(0)
    video, audio = torch.randn(40, 8), torch.randn(40, 8)
    silence = torch.zeros(8)
    means = []
    for lead in range(-15, 16):
        shifted = [audio[i - lead] if 0 <= i - lead < 40 else silence for i in range(40)]
        means.append(float(torch.stack([(v - a).norm() for v, a in zip(video, shifted, strict=True)]).mean()))
    found = lip_sync(video, audio)
    assert found.distances.tolist() == pytest.approx(means, rel=1e-5)
    assert found.lse_d == pytest.approx(min(means), rel=1e-5)
    assert found.lse_c == pytest.approx(sorted(means)[15] - min(means), rel=1e-4)
    assert lip_sync(video, audio, reach=2).distances.tolist() == pytest.approx(means[13:18], rel=1e-5)


@pytest.mark.parametrize("sizes", [(100,), (1, 0, 60, 2, 37), (16,) * 6 + (4,), (0,), (3,)])
def test_a_clip_in_parts_is_the_clip(sizes):
    torch.manual_seed(0)
    video, audio = torch.randn(sum(sizes), 16), torch.randn(sum(sizes), 16)
    whole = lip_sync(video, audio)
    found = lip_sync_of_parts(zip(video.split(sizes), audio.split(sizes), strict=True))
    assert found.windows == whole.windows == sum(sizes)
    torch.testing.assert_close(found.distances, whole.distances, equal_nan=True)
    assert found.offset == whole.offset


def test_what_agrees_is_confident_and_what_does_not_is_not():
    torch.manual_seed(0)
    video, audio = torch.randn(200, 64), torch.randn(200, 64)
    same, other = lip_sync(video, video.clone()), lip_sync(video, audio)
    assert same.lse_d < 1e-4
    assert same.lse_c > 10 > 0.5 > other.lse_c > 0
    with pytest.raises(ValueError, match="embeddings"):
        lip_sync(video, audio[:-1])


def test_the_released_file(model, tmp_path):
    path = tmp_path / "syncnet_v2.model"
    tensors = released(model)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)  # as it was written
    loaded = load_syncnet(path)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    with pytest.raises(ModelError, match=r"1 tensors have no place in SyncNet; the first is netfcface\.weight"):
        load_syncnet(tensors | {"netfcface.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"video\.netcnnlip\.18$"):
        load_syncnet({name: t for name, t in tensors.items() if not name.startswith("netcnnlip.18.")})


def test_names_and_shapes_are_those_of_the_file(model):
    found = {name: tuple(tensor.shape) for name, tensor in released(model).items()}
    assert found == released_shapes("syncnet_v2")
