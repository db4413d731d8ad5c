"""VisualVoice: the network against the same computed from tensors by their released names, and its windows."""

import pytest
import torch
from released_layers import Layers, Shapes, biased, norm, resnet
from released_names import released_shapes
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.released.visualvoice import VisualVoice, load_visualvoice

WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)


def depthwise(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width, 1, 3, 3)}


def pointwise(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, 1, 1)}


def lips() -> Shapes:
    shapes = {"frontend3D.0.weight": (24, 1, 5, 7, 7), "frontend3D.2.weight": (24,)} | norm("frontend3D.1", 24)
    inputs, block = 24, 0
    for width, repeats in ((58, 4), (116, 8), (232, 4)):
        for i in range(repeats):
            name = f"trunk.0.{block}."
            first, second = f"{name}banch1.", f"{name}banch2."
            if i == 0:
                shapes |= depthwise(f"{first}0", inputs) | norm(f"{first}1", inputs)
                shapes |= pointwise(f"{first}2", inputs, width) | norm(f"{first}3", width)
            shapes |= pointwise(f"{second}0", inputs if i == 0 else width, width) | norm(f"{second}1", width)
            shapes |= depthwise(f"{second}3", width) | norm(f"{second}4", width)
            shapes |= pointwise(f"{second}5", width, width) | norm(f"{second}6", width)
            block += 1
        inputs = 2 * width
    shapes |= pointwise("trunk.1.0", 464, 1024) | norm("trunk.1.1", 1024) | biased("tcn.tcn_output", 500, 512)
    for level in range(4):
        name, width = f"tcn.tcn_trunk.network.{level}.", 512 if level else 1024
        for copies in (("conv1", "batchnorm1", "relu1", "conv2", "batchnorm2", "relu2"), (0, 1, 3, 5, 6, 8)):
            layers = [f"{name}net.{layer}" if isinstance(layer, int) else f"{name}{layer}" for layer in copies]
            shapes |= biased(layers[0], 512, width, 3) | norm(layers[1], 512) | {f"{layers[2]}.weight": (512,)}
            shapes |= biased(layers[3], 512, 512, 3) | norm(layers[4], 512) | {f"{layers[5]}.weight": (512,)}
        shapes[f"{name}relu.weight"] = (512,)
    return shapes | biased("tcn.tcn_trunk.network.0.downsample", 512, 1024, 1)


def unet() -> Shapes:
    shapes, inputs = {}, 2
    for level, width in enumerate(WIDTHS, 1):
        name = f"audionet_convlayer{level}."
        if level < 3:
            shapes |= biased(f"{name}0", width, inputs, 4, 4) | norm(f"{name}1", width)
        else:
            shapes |= biased(f"{name}conv.0", width, inputs, 3, 3) | norm(f"{name}conv.1", width)
            shapes |= biased(f"{name}conv.3", width, width, 3, 3) | norm(f"{name}conv.4", width)
        inputs = width
    for level, (inputs, outputs) in enumerate(((1152, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128)), 1):
        name = f"audionet_upconvlayer{level}.up."
        shapes |= biased(f"{name}1", outputs, inputs, 3, 3) | norm(f"{name}2", outputs)
    shapes |= biased("audionet_upconvlayer7.0", 256, 64, 4, 4, transposed=True) | norm("audionet_upconvlayer7.1", 64)
    return shapes | biased("audionet_upconvlayer8.0", 128, 2, 4, 4, transposed=True)


FACIAL = {"conv1.weight": (64, 3, 7, 7)} | resnet("feature_extraction") | biased("fc", 128, 512)
RELEASED = {"lipreading": lips(), "facial": FACIAL, "unet": unet()}


def drawn(file: str) -> dict[str, Tensor]:
    """Random, of sizes that let a signal through; what is in a file twice is the same."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape in RELEASED[file].items():
        tensor = torch.randn(shape) * (1 / max(1, torch.Size(shape[1:]).numel())) ** 0.5
        if len(shape) == 1:
            tensor = torch.rand(shape) + 0.5 if name.endswith(("weight", "var")) else 0.1 * tensor
        tensors[name] = 0.25 * tensor if "relu" in name else torch.tensor(7) if shape == () else tensor
    return tensors


class Voice(Layers):
    def prelu(self, name: str, x: Tensor) -> Tensor:
        return F.prelu(x, self.tensors[f"{name}.weight"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        stats = [self.tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *stats)

    def shuffle_block(self, name: str, x: Tensor) -> Tensor:
        halves = f"{name}banch1.0.weight" not in self.tensors
        stride = 1 if halves else 2
        first, x = x.chunk(2, 1) if halves else (x, x)
        if not halves:
            first = self.conv(f"{name}banch1.0", first, stride=2, padding=1, groups=first.shape[1])
            first = self.conv(f"{name}banch1.2", self.norm(f"{name}banch1.1", first))
            first = self.norm(f"{name}banch1.3", first).relu()
        x = self.norm(f"{name}banch2.1", self.conv(f"{name}banch2.0", x)).relu()
        x = self.conv(f"{name}banch2.3", x, stride=stride, padding=1, groups=x.shape[1])
        x = self.norm(f"{name}banch2.6", self.conv(f"{name}banch2.5", self.norm(f"{name}banch2.4", x))).relu()
        return torch.stack([first, x], 2).flatten(1, 2)

    def lips(self, mouth: Tensor) -> Tensor:
        """``[B, T, 96, 96]`` to ``[B, 512, T]``."""
        x = ((mouth[:, :, 4:92, 4:92] - 0.421) / 0.165)[:, None]
        x = F.conv3d(x, self.tensors["frontend3D.0.weight"], stride=(1, 2, 2), padding=(2, 3, 3))
        x = F.max_pool3d(self.prelu("frontend3D.2", self.norm("frontend3D.1", x)), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        frames = []
        for i in range(x.shape[2]):
            frame = x[:, :, i]
            for block in range(16):
                frame = self.shuffle_block(f"trunk.0.{block}.", frame)
            frames.append(self.norm("trunk.1.1", self.conv("trunk.1.0", frame)).relu().flatten(2).mean(2))
        x = torch.stack(frames, 2)
        for level in range(4):
            name, y = f"tcn.tcn_trunk.network.{level}.", x
            for i in (1, 2):
                weight, bias = self.tensors[f"{name}conv{i}.weight"], self.tensors[f"{name}conv{i}.bias"]
                y = F.conv1d(y, weight, bias, padding=2**level, dilation=2**level)
                y = self.prelu(f"{name}relu{i}", self.norm(f"{name}batchnorm{i}", y))
            if level == 0:
                x = F.conv1d(x, self.tensors[f"{name}downsample.weight"], self.tensors[f"{name}downsample.bias"])
            x = self.prelu(f"{name}relu", x + y)
        return x

    def masks(self, x: Tensor, seen: Tensor) -> Tensor:
        levels = []
        for level in range(1, 9):
            name = f"audionet_convlayer{level}."
            if level < 3:
                x = F.leaky_relu(self.norm(f"{name}1", self.conv(f"{name}0", x, stride=2, padding=1)), 0.2)
            else:
                for i in (0, 3):
                    x = self.norm(f"{name}conv.{i + 1}", self.conv(f"{name}conv.{i}", x, padding=1))
                    x = F.leaky_relu(x, 0.2)
                x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
            levels.append(x)
        x = seen[:, :, None]
        for level in range(1, 9):
            name, x = f"audionet_upconvlayer{level}.", torch.cat([x, levels.pop()], 1)
            if level < 7:
                x = self.norm(f"{name}up.2", self.conv(f"{name}up.1", x.repeat_interleave(2, 2), padding=1)).relu()
            else:
                weight, bias = self.tensors[f"{name}0.weight"], self.tensors[f"{name}0.bias"]
                x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
                x = self.norm(f"{name}1", x).relu() if level == 7 else 5 * x.tanh()
        return x


def test_the_names_above_are_the_released_ones():
    assert released_shapes("visualvoice_unet") == RELEASED["unet"]


@torch.no_grad()
def test_the_network():
    tensors = {file: drawn(file) for file in RELEASED}
    model = load_visualvoice(**tensors)
    assert not model.training
    mouth, face = torch.rand(1, 2, 4, 96, 96), torch.rand(1, 2, 3, 64, 64)
    spectrum = torch.randn(1, 257, 16, dtype=torch.complex64)
    heard = torch.stack([spectrum.real, spectrum.imag], 1)[:, :, :-1].repeat(2, 1, 1, 1)
    looks = Voice(tensors["facial"]).resnet("feature_extraction", face[0]).flatten(2).max(2).values
    looks = looks @ tensors["facial"]["fc.weight"].T + tensors["facial"]["fc.bias"]
    read = Voice(tensors["lipreading"]).lips(mouth[0])
    torch.testing.assert_close(model.lips(mouth[0]), read, atol=1e-5 * read.abs().max().item(), rtol=0)
    seen = torch.cat([looks[:, :, None].expand(-1, -1, 4), read], 1)
    expected = Voice(tensors["unet"]).masks(heard, seen)
    found = model(spectrum, mouth, face)
    assert found.shape == (1, 2, 256, 16) and 0.3 < found.real.std() < 4.5
    torch.testing.assert_close(torch.stack([found[0].real, found[0].imag], 1), expected, atol=5e-5, rtol=0)
    # What sounds changes with who is seen.
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)


class Twice(VisualVoice):
    """Doubles; notes which frames, and how loud, it is shown."""

    def embed_face(self, face: Tensor) -> Tensor:
        return face

    def masks(self, spectrum: Tensor, mouth: Tensor, seen: Tensor) -> Tensor:
        self.shown = [*getattr(self, "shown", []), (mouth[0, 0, 0, 0, 0].item(), mouth.shape[2])]
        self.heard = spectrum
        return torch.full((1, seen.shape[1], 256, spectrum.shape[2]), 2 + 0j)


def test_separate_by_windows():
    samples = 40800 * 2 + 5000
    t = torch.arange(samples) / 16000
    mixture = 0.01 * torch.sin(2 * torch.pi * 440 * t)[None] + 0.01
    mouth = torch.arange(138.0).view(1, 1, 138, 1, 1).expand(1, 2, 138, 96, 96)
    with torch.device("meta"):
        model = Twice()
    found = model.separate(mixture, mouth, torch.zeros(1, 2, 3, 8, 8))
    # The quiet mixture comes back as quiet as it was.
    torch.testing.assert_close(found, 2 * mixture.expand(1, 2, -1), atol=1e-5, rtol=0)
    # The last frames go with the last window.
    assert model.shown == [(0, 64), (64, 64), (74, 64)]
    loud = torch.istft(model.heard, 512, 160, 400, torch.hann_window(400), length=40800)
    torch.testing.assert_close(loud.square().mean().sqrt(), torch.tensor(0.07), atol=1e-4, rtol=0)
    # Audio is mirrored at the ends of a window: with silence there, half as much would be heard.
    torch.testing.assert_close(model.heard[0, 0, 0].abs(), model.heard[0, 0, 100].abs(), atol=0, rtol=0.1)


def test_the_highest_frequency_is_not_masked():
    with torch.device("meta"):
        model = VisualVoice()
    model.embed_face = lambda face: face
    model.masks = lambda spectrum, mouth, seen: torch.zeros(1, 1, 256, spectrum.shape[2], dtype=torch.complex64)
    highest = 0.01 * torch.tensor([1.0, -1.0]).repeat(20400)[None]
    nobody = torch.zeros(1, 1, 64, 96, 96), torch.zeros(1, 1, 3, 8, 8)
    assert model.separate(highest, *nobody).std() > 0.004
    assert model.separate(highest.abs(), *nobody).abs().max() < 1e-4


def test_what_is_too_short_is_refused():
    with torch.device("meta"):
        model = VisualVoice()
    face = torch.zeros(1, 1, 3, 8, 8)
    with pytest.raises(ModelError, match="windows of 40800 samples at 16 kHz; there are 40799"):
        model.separate(torch.zeros(1, 40799), torch.zeros(1, 1, 64, 96, 96), face)
    with pytest.raises(ModelError, match="needs 128 frames at 25 a second for 82000 samples; there are 127"):
        model.separate(torch.zeros(1, 82000), torch.zeros(1, 1, 127, 96, 96), face)


@torch.no_grad()
def test_files_are_read_as_published(tmp_path):
    # A number stands for a whole tensor, so that the files are small.
    numbers = {}
    for file, shapes in RELEASED.items():
        numbers[file] = {name: float(number) for number, name in enumerate(shapes)}
        tensors = {name: torch.tensor(numbers[file][name]).expand(shape) for name, shape in shapes.items()}
        torch.save(tensors, tmp_path / f"{file}_best.pth")
    model = load_visualvoice(*(tmp_path / f"{file}_best.pth" for file in RELEASED))
    assert model.up[0][0].bias[0] == numbers["unet"]["audionet_upconvlayer8.0.bias"]
    assert model.down[7][4].running_var[0] == numbers["unet"]["audionet_convlayer8.conv.4.running_var"]
    assert model.lips.temporal[3].relu2.weight[0] == numbers["lipreading"]["tcn.tcn_trunk.network.3.relu2.weight"]
    assert model.face.features[7][1].bn2.bias[0] == numbers["facial"]["feature_extraction.7.1.bn2.bias"]


@pytest.mark.parametrize(
    ("file", "lost", "named"),
    [
        ("lipreading", "trunk.0.3.banch2.5.", r"VisualVoice\): lips\.trunk\.0\.3\.branch2\.5$"),
        ("facial", "fc.", r"project$"),
        ("unet", "audionet_upconvlayer1.up.1.", r"up\.7\.1$"),
    ],
)
def test_a_group_that_is_missing_is_named(file, lost, named):
    tensors = {
        part: {
            name: torch.empty(shape, device="meta")
            for name, shape in shapes.items()
            if not (part == file and name.startswith(lost))
        }
        for part, shapes in RELEASED.items()
    }
    with torch.device("meta"), pytest.raises(ModelError, match=named):
        load_visualvoice(**tensors)
