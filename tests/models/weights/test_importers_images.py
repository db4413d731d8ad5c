"""Weights of networks for images, in files, begin networks for video."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.inflate import inflate, load_image_weights


def random_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def resnet50():
    torch.manual_seed(0)
    return random_norms(timm.create_model("resnet50"))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_file_of_timm(tmp_path, name, ending):
    torch.manual_seed(0)
    flat = random_norms(timm.create_model(name))
    save = save_file if ending == "safetensors" else torch.save
    save(flat.state_dict(), tmp_path / f"weights.{ending}")
    model = inflate(name, weights=tmp_path / f"weights.{ending}").eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        found = model.forward_features(image.unsqueeze(2).expand(-1, -1, 4, -1, -1))
        stage = model.stage_info[-1].name
        expected = timm.models.create_feature_extractor(flat, [stage])(model.normalized(image))[stage]
    assert close(found, expected.unsqueeze(2).expand_as(found))


def test_a_file_for_other_channels_and_another_network(resnet50):
    tensors = resnet50.state_dict()
    model = inflate("resnet50", in_chans=1, weights=tensors)
    expected = tensors["conv1.weight"].sum(1, keepdim=True)
    assert torch.allclose(model.net.conv1.weight.sum(2), expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"are missing .*layer1\.0\.downsample"):
        inflate("resnet50", weights={key: t for key, t in tensors.items() if "layer1.0.downsample" not in key})
    with pytest.raises(ModelError, match="are missing"):
        inflate("resnet18", weights=tensors)


@pytest.mark.parametrize("name", ["c2d_r50", "slow_r50_8x8", "i3d_r50", "i3d_nl_r50"])
def test_a_video_without_motion_gives_what_the_image_gives(name, resnet50):
    model = create_model(name)
    model.reset_classifier(5)
    classifier = model.classifier.weight.clone()
    # From the middle of the clip its ends are not seen.
    frames = {"c2d_r50": 2, "slow_r50_8x8": 23}.get(name, 44)
    report = load_image_weights(model.eval(), resnet50.state_dict())
    assert report.left == ["fc.bias", "fc.weight"]
    assert torch.equal(model.classifier.weight, classifier)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        found = model.forward_features(image.unsqueeze(2).expand(-1, -1, frames, -1, -1))
        expected = resnet50.forward_features(model.normalized(image))
    assert model.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert close(found[:, :, found.shape[2] // 2], expected)


def test_groups_without_a_counterpart_are_named(resnet50):
    tensors = resnet50.state_dict()
    with pytest.raises(ModelError, match=r"are missing .*: layer3\.10\.conv1\.0, .* more$"):
        load_image_weights(create_model("i3d_r101"), tensors)
    with pytest.raises(ModelError, match=r"layer1\.0\.conv2\.0"):
        load_image_weights(create_model("ir_csn_50"), tensors)
    with pytest.raises(ModelError, match="are missing"):
        load_image_weights(create_model("s3d"), tensors)


def test_other_channels(resnet50):
    model = create_model("i3d_r50", in_chans=2)
    load_image_weights(model, resnet50.state_dict())
    assert model.stem[0].weight.shape == (64, 2, 5, 7, 7)
    expected = resnet50.conv1.weight[:, :2] * 1.5
    assert torch.allclose(model.stem[0].weight.sum(2), expected, atol=1e-6)
    assert model.mean.shape == (2,)
