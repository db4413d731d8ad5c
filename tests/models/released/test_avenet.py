"""AVE-Net and AVOL-Net: each against the same computed from tensors by their released names."""

import pytest
import torch
from released_names import released_shapes
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.released.avenet import load_avenet, load_avolnet


def towers() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {}
    for tower, channels in (("icn", 3), ("acn", 1)):
        for group, width in enumerate((64, 128, 256, 512), 1):
            for i in (1, 2):
                at = f"{group}_{i}."
                tensors[f"{tower}.conv{at}weight"] = torch.randn(width, channels, 3, 3) * (2 / 9 / channels) ** 0.5
                tensors[f"{tower}.conv{at}bias"] = torch.randn(width) * 0.1
                for part in ("weight", "running_var"):
                    tensors[f"{tower}.bn{at}{part}"] = torch.rand(width) + 0.5
                for part in ("bias", "running_mean"):
                    tensors[f"{tower}.bn{at}{part}"] = torch.randn(width) * 0.1
                channels = width
    return tensors | linear("aud_fc1", 128, 512) | linear("aud_fc2", 128, 128)


def linear(name: str, *shape: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(shape) * shape[1] ** -0.5, f"{name}.bias": torch.randn(shape[0]) * 0.1}


def avenet() -> dict[str, Tensor]:
    return towers() | linear("img_fc1", 128, 512) | linear("img_fc2", 128, 128) | linear("fc3", 2, 1)


def avolnet() -> dict[str, Tensor]:
    convs = linear("im_conv5", 128, 512, 1, 1) | linear("im_conv6", 128, 128, 1, 1)
    fusion = {"fus_conv7.weight": torch.full((1, 1, 1, 1), 0.02), "fus_conv7.bias": torch.tensor([-0.3])}
    return towers() | convs | fusion


class Reference:
    """The layers by their released names."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

    def tower(self, name: str, x: Tensor) -> Tensor:
        for group in (1, 2, 3, 4):
            for i in (1, 2):
                at = f"{group}_{i}"
                x = F.conv2d(x, *self.of(f"{name}.conv{at}"), 2 if at == "1_1" else 1, 1)
                statistics = (self.tensors[f"{name}.bn{at}.running_{part}"] for part in ("mean", "var"))
                x = F.batch_norm(x, *statistics, *self.of(f"{name}.bn{at}")).relu()
            x = F.max_pool2d(x, 2) if group < 4 else x
        return x

    def image_features(self, image: Tensor) -> Tensor:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return self.tower("icn", (image - mean.view(3, 1, 1)) / std.view(3, 1, 1))

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.embed(self.tower("acn", audio), "aud_fc")

    def embed(self, features: Tensor, name: str) -> Tensor:
        hidden = F.linear(features.flatten(2).max(2).values, *self.of(f"{name}1")).relu()
        return F.linear(hidden, *self.of(f"{name}2"))


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(2, 3, 64, 80), torch.randn(2, 1, 65, 48)


def test_the_names_above_are_the_released_ones():
    for file, tensors in (("avenet", avenet()), ("avolnet", avolnet())):
        shapes = released_shapes(file)
        assert {name: s for name, s in shapes.items() if not name.endswith("num_batches_tracked")} == {
            name: tuple(tensor.shape) for name, tensor in tensors.items()
        }


@torch.no_grad()
def test_avenet(pair, tmp_path):
    image, audio = pair
    tensors = avenet()
    torch.save(tensors, tmp_path / "ave.pt")
    model, reference = load_avenet(tmp_path / "ave.pt"), Reference(tensors)
    seen, heard = (
        F.normalize(reference.embed(reference.image_features(image), "img_fc")),
        F.normalize(reference.embed_audio(audio)),
    )
    for found, expected in zip(model.embeddings(image, audio), (seen, heard), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    distance = (seen - heard).square().sum(1, keepdim=True).sqrt()
    expected = F.linear(distance, *reference.of("fc3"))
    torch.testing.assert_close(model(image, audio), expected, atol=1e-5, rtol=1e-5)
    assert not model.training


@torch.no_grad()
def test_avolnet(pair, tmp_path):
    image, audio = pair
    tensors = avolnet()
    torch.save(tensors, tmp_path / "avol.pt")
    model, reference = load_avolnet(tmp_path / "avol.pt"), Reference(tensors)
    seen = F.conv2d(F.conv2d(reference.image_features(image), *reference.of("im_conv5")), *reference.of("im_conv6"))
    heard = reference.embed_audio(audio)
    expected = (0.02 * (seen * heard[:, :, None, None]).sum(1) - 0.3).sigmoid()
    found = model(image, audio)
    assert found.shape == (2, 4, 5)
    assert 0 < found.min() < found.max() < 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # Where the audio comes from changes with the audio.
    assert not torch.allclose(model(image, audio.flip(0)), found, atol=1e-3)


def test_what_does_not_fit_is_named():
    with pytest.raises(ModelError, match=r"AVE-Net\): head, image_embed\.2$"):
        load_avenet(avolnet())
    tensors = {name: tensor for name, tensor in avolnet().items() if not name.startswith("acn.bn3_2.")}
    with pytest.raises(ModelError, match=r"audio\.18$"):
        load_avolnet(tensors)
    with pytest.raises(ModelError, match=r"1 tensors have no place in AVE-Net; the first is other"):
        load_avenet(avenet() | {"other": torch.zeros(1)})
