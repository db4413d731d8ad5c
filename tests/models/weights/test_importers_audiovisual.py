"""Weights that learned from video and audio together: of a file with two networks, each encoder takes its own."""

import pytest
import torch
from released_names import released_shapes
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as ImageResNet
from torchvision.models.video import r2plus1d_18

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.r2plus1d import AVIDResNet
from avlearn.models.weights.importers import find_layout

GREY = [0.45] * 3


def filled(model: nn.Module) -> nn.Module:
    """With weights, and statistics of normalisations, far from where they start."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.ndim == 1:
            nn.init.normal_(tensor, 0, 0.1)
        elif tensor.ndim > 1:
            nn.init.kaiming_normal_(tensor)
    return model.eval()


def under(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def video_network() -> nn.Module:
    net = filled(r2plus1d_18())
    net.fc = nn.Identity()
    return net


def audio_network() -> nn.Module:
    net = ImageResNet(BasicBlock, [1, 1, 1, 1])
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net.fc = nn.Identity()
    return filled(net)


@pytest.mark.parametrize(
    ("envelope", "heads"),
    [("state_dict", ("mlp_v.weight", "mlp_a.weight")), ("model", ("mlp_v0.block_forward.2.weight",))],
    ids=["gdt", "selavi"],
)
def test_each_encoder_takes_its_network(tmp_path, envelope, heads):
    video, audio = video_network(), audio_network()
    tensors = under("module.video_network.base.", video) | under("module.audio_network.base.", audio)
    tensors |= {f"module.{name}": torch.zeros(256, 512) for name in heads}
    path = tmp_path / "both.pth"
    torch.save({envelope: tensors, "epoch": 100}, path)

    clip, spectrogram = torch.rand(1, 3, 8, 32, 32), torch.rand(1, 1, 40, 128)
    ours = create_model("r2plus1d_18", weights=path).eval()
    assert ours.mean.tolist() == pytest.approx(GREY)
    with torch.no_grad():
        torch.testing.assert_close(ours(clip), video((clip - 0.45) / 0.225), atol=1e-5, rtol=1e-5)
    assert ours.loaded.layout == "gdt video"
    assert set(heads) < set(ours.loaded.left)

    ours = create_model("resnet9", weights=path).eval()
    assert ours.config["options"] == {"temporal_stride": 32}
    with torch.no_grad():
        torch.testing.assert_close(ours(spectrogram), audio(spectrogram), atol=1e-5, rtol=1e-5)
    assert ours.loaded.layout == "gdt audio"
    assert find_layout(ours.state_dict()).name == "avlearn"
    assert not [name for name in ours.loaded.left if name.startswith(("stem.", "layers."))]


def test_strides_over_time_may_be_others_than_published():
    tensors = under("audio_network.base.", audio_network())
    for stride, steps in ((8, 8), (16, 4), (32, 2)):
        model = create_model("resnet9", weights=tensors, temporal_stride=stride)
        features = model.forward_features(torch.zeros(1, 1, 40, 64))
        assert features.shape == (1, 512, steps)
        assert model.feature_info.stride[0] == model.stage_info[-1].stride[0] == stride
    with pytest.raises(ModelError, match="8, 16 or 32, not 4"):
        create_model("resnet9", temporal_stride=4)


def per_convolution(classifier: bool) -> dict[str, Tensor]:
    """torchvision's names, but as many channels between space and time as each convolution has parameters for."""
    tensors = filled(r2plus1d_18()).state_dict()
    for layer, width in ((2, 288), (3, 576), (4, 1152)):
        at = f"layer{layer}.0.conv2.0."
        planes = width * 4 // 9
        tensors[f"{at}0.weight"] = torch.randn(width, planes, 1, 3, 3)
        tensors[f"{at}3.weight"] = torch.randn(planes, width, 3, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{at}1.{part}"] = torch.rand(width)
    return {name: t for name, t in tensors.items() if classifier or not name.startswith("fc.")}


@pytest.mark.parametrize("classifier", [False, True])
def test_shapes_tell_xdc_from_torchvision(classifier):
    tensors = per_convolution(classifier)
    assert find_layout(tensors).name == "vmz r2plus1d"
    model = create_model("r2plus1d_18", weights=tensors, num_classes=400 if classifier else None)
    assert model.config["options"] == {"mid_width": "per-conv", "eps": 1e-3}
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}
    assert model.loaded.left == []
    assert torch.equal(model.layer3[0].conv2[0][0].weight, tensors["layer3.0.conv2.0.0.weight"])
    if classifier:
        assert torch.equal(model.classifier.weight, tensors["fc.weight"])

    model = create_model("r2plus1d_18", weights=r2plus1d_18().state_dict())
    assert model.loaded.layout == "torchvision"
    assert model.config["options"] == {}


def avid() -> dict[str, Tensor]:
    """Tensors by the names of AVID-CMA's checkpoints, without the wrapper's."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = nn.init.kaiming_normal_(torch.empty(shape))

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "running_var"):
            tensors[f"{name}.{part}"] = torch.empty(channels).uniform_(0.5, 1.5)
        for part in ("bias", "running_mean"):
            tensors[f"{name}.{part}"] = torch.randn(channels) * 0.1

    conv("video_model.conv1.0", 64, 3, 3, 7, 7)
    norm("video_model.conv1.1", 64)
    inputs = 64
    for group in (2, 3, 4, 5):
        outputs = 64 << (group - 2)
        for j in range(2):
            at = f"video_model.conv{group}x.{j}."
            for i in (1, 2):
                conv(f"{at}spt_conv{i}", outputs, inputs if i == 1 else outputs, 1, 3, 3)
                norm(f"{at}spt_bn{i}", outputs)
                conv(f"{at}tmp_conv{i}", outputs, outputs, 3, 1, 1)
                norm(f"{at}tmp_bn1" if i == 1 else f"{at}out_bn", outputs)
            if inputs != outputs:
                conv(f"{at}res_conv", outputs, inputs, 1, 1, 1)
            inputs = outputs
    conv("audio_model.conv1.0", 64, 1, 7, 7)
    norm("audio_model.conv1.1", 64)
    for i, (inputs, outputs) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), 1):
        for j in (1, 2):
            conv(f"audio_model.block{i}.conv{j}", outputs, inputs if j == 1 else outputs, 3, 3)
            norm(f"audio_model.block{i}.bn{j}", outputs)
    tensors["video_proj.projection.0.weight"] = torch.zeros(512, 512)
    return tensors


def test_both_networks_of_avid(tmp_path):
    tensors = avid()
    path = tmp_path / "checkpoint.pth.tar"
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"model": wrapped, "train_criterion": {"memory": torch.zeros(2, 2)}, "epoch": 400}, path)

    def norm(x: Tensor, name: str) -> Tensor:
        at = {part: tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, **at)

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        """Two separated convolutions; the norm after the second comes after the shortcut is added."""
        found = x
        for i, step in ((1, stride), (2, 1)):
            space, time = tensors[f"{name}.spt_conv{i}.weight"], tensors[f"{name}.tmp_conv{i}.weight"]
            found = F.conv3d(found, space, stride=(1, step, step), padding=(0, 1, 1))
            found = norm(found, f"{name}.spt_bn{i}").relu()
            found = F.conv3d(found, time, stride=(step, 1, 1), padding=(1, 0, 0))
            if i == 1:
                found = norm(found, f"{name}.tmp_bn1").relu()
        if stride > 1:
            x = F.conv3d(x, tensors[f"{name}.res_conv.weight"], stride=stride)
        return norm(found + x, f"{name}.out_bn").relu()

    clip = torch.rand(1, 3, 8, 32, 32)
    model = create_model("r2plus1d_18_avid", weights=path).eval()
    with torch.no_grad():
        x = F.conv3d(model.normalized(clip), tensors["video_model.conv1.0.weight"], None, (1, 2, 2), (1, 3, 3))
        x = F.max_pool3d(norm(x, "video_model.conv1.1").relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for group in (2, 3, 4, 5):
            for j in range(2):
                x = block(x, f"video_model.conv{group}x.{j}", 2 if group > 2 and j == 0 else 1)
        torch.testing.assert_close(model.forward_features(clip), x, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(clip), x.amax((2, 3, 4)), atol=1e-4, rtol=1e-4)
    assert model.loaded.layout == "avid-cma"

    model = create_model("conv2d_10", weights=path)
    assert torch.equal(model.block4.bn2.running_var, tensors["audio_model.block4.bn2.running_var"])
    assert model.loaded.taken == sum(name.startswith("audio_model.") for name in tensors)


@pytest.mark.parametrize(
    ("file", "name", "left"),
    [
        ("avid", "r2plus1d_18_avid", ("conv1.", "block", "video_proj.", "audio_proj.")),
        ("avid", "conv2d_10", ("stem.", "layer", "video_proj.", "audio_proj.")),
        ("xdc_r2plus1d18", "r2plus1d_18", ("classifier.",)),
    ],
)
def test_every_released_parameter_has_a_place(file, name, left):
    tensors = {key: torch.zeros(shape) for key, shape in released_shapes(file).items()}
    model = create_model(name, weights=tensors)
    assert all(not parameter.any() for parameter in model.parameters())
    assert all(key.startswith(left) for key in model.loaded.left), model.loaded.left


def test_all_of_avids_network_learns():
    torch.manual_seed(0)
    model = AVIDResNet(depths=(1, 2, 1, 1), width=4)
    model(torch.rand(2, 3, 8, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_what_does_not_fit_is_named():
    tensors = under("video_network.base.", video_network())
    with pytest.raises(ModelError, match="are missing"):
        create_model("resnet9", weights=tensors)
    with pytest.raises(ModelError, match=r"are missing.*gdt video"):
        create_model("r3d_18", weights=tensors)
    del tensors["video_network.base.layer3.1.conv2.0.3.weight"]
    with pytest.raises(ModelError, match=r"gdt video.*layer3\.1\.conv2\.0\.3$"):
        create_model("r2plus1d_18", weights=tensors)
    tensors = {name: tensor for name, tensor in avid().items() if ".conv4x.1.out_bn." not in name}
    with pytest.raises(ModelError, match=r"layer3\.1\.relu\.0$"):
        create_model("r2plus1d_18_avid", weights=tensors)
