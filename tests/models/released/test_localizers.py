"""Sound localizers: networks against the same computed from tensors by their released names, and what they are fed."""

import numpy as np
import pytest
import torch
from PIL import Image
from released_names import released_shapes
from scipy.signal import spectrogram
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.released.localizers import (
    EVALUATORS,
    load_localizer,
    load_object_map,
    localizer_spectrogram,
    object_guided,
    prepare_image,
    tri_map,
)

Shapes = dict[str, tuple[int, ...]]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def norm(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def trunk(name: str) -> Shapes:
    """A ResNet-18 without stem and classifier."""
    shapes = norm(f"{name}.bn1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for i in range(2):
            block = f"{name}.layer{stage}.{i}."
            shapes |= {f"{block}conv1.weight": (width, inputs, 3, 3), f"{block}conv2.weight": (width, width, 3, 3)}
            shapes |= norm(f"{block}bn1", width) | norm(f"{block}bn2", width)
            if inputs != width:
                shapes[f"{block}downsample.0.weight"] = (width, inputs, 1, 1)
                shapes |= norm(f"{block}downsample.1", width)
            inputs = width
    return shapes


def projected(prefix: str = "", numbers: tuple[str, ...] = ("",)) -> Shapes:
    shapes = {}
    for tower, side, channels, kernel in (("img", "imgnet", 3, (1, 1)), ("aud", "audnet", 1, ())):
        shapes |= trunk(f"{prefix}{side}") | {f"{prefix}{side}.conv1.weight": (64, channels, 7, 7)}
        for number in numbers:
            name = f"{prefix}{tower}_proj{number}"
            shapes |= {f"{name}.weight": (512, 512, *kernel), f"{name}.bias": (512,)}
    return shapes


def lvs() -> Shapes:
    shapes = {}
    for side in ("imgnet", "audnet"):
        stems = {"conv1": 3, "conv1_a": 1, "conv1_flow": 6}
        shapes |= {f"{side}.{stem}.weight": (64, channels, 7, 7) for stem, channels in stems.items()}
        shapes |= trunk(side) | {f"{side}.fc.weight": (1000, 512), f"{side}.fc.bias": (1000,)}
    return shapes


# By file, the names in it, the envelope that they lie in, and their prefix.
RELEASED = {
    "ezvsl": (projected(), "model", "module."),
    "fnac": (projected(), "model", "module."),
    "slavc": (projected(numbers=("1", "2")) | projected("momentum_", ("1", "2")), "model", "module."),
    "lvs": (lvs(), "model_state_dict", "module."),
}


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Random, of sizes that let a signal through."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape) * (2 / max(1, torch.Size(shape[1:]).numel())) ** 0.5
        if len(shape) == 1:
            tensor = torch.rand(shape) + 0.5 if name.endswith(("weight", "var")) else 0.1 * tensor
        tensors[name] = torch.tensor(7) if shape == () else tensor
    return tensors


class Reference:
    """The layers by their released names."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (
            self.tensors[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def tower(self, name: str, x: Tensor, stem: str = "conv1", last: int = 2) -> Tensor:
        x = F.conv2d(x, self.tensors[f"{name}.{stem}.weight"], stride=2, padding=3)
        x = F.max_pool2d(self.norm(f"{name}.bn1", x).relu(), 3, 2, 1)
        for stage in range(1, 5):
            for i in range(2):
                block = f"{name}.layer{stage}.{i}."
                stride = (1, 2, 2, last)[stage - 1] if i == 0 else 1
                y = F.conv2d(x, self.tensors[f"{block}conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(self.norm(f"{block}bn1", y).relu(), self.tensors[f"{block}conv2.weight"], padding=1)
                if f"{block}downsample.0.weight" in self.tensors:
                    x = F.conv2d(x, self.tensors[f"{block}downsample.0.weight"], stride=stride)
                    x = self.norm(f"{block}downsample.1", x)
                x = (x + self.norm(f"{block}bn2", y)).relu()
        return x

    def project(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"].flatten(1), self.tensors[f"{name}.bias"]
        return torch.einsum("oc,bc...->bo...", weight, x) + bias.view(-1, *[1] * (x.ndim - 2))

    def projected(self, image: Tensor, audio: Tensor, prefix: str = "", numbers: tuple[str, ...] = ("",)) -> Tensor:
        seen = self.tower(f"{prefix}imgnet", (image - MEAN) / STD)
        heard = self.tower(f"{prefix}audnet", audio).flatten(2).max(2).values
        maps = [
            cosine(self.project(f"{prefix}img_proj{number}", seen), self.project(f"{prefix}aud_proj{number}", heard))
            for number in numbers
        ]
        return sum(maps) / len(maps)

    def lvs(self, image: Tensor, audio: Tensor) -> Tensor:
        heard = self.tower("audnet", audio, "conv1_a", 1).flatten(2).max(2).values
        return cosine(self.tower("imgnet", (image - MEAN) / STD, last=1), heard)


def cosine(seen: Tensor, heard: Tensor) -> Tensor:
    return F.cosine_similarity(seen, heard[:, :, None, None], dim=1)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(2, 3, 64, 96), torch.randn(2, 1, 65, 48)


@pytest.mark.parametrize("file", RELEASED)
def test_the_names_above_are_the_released_ones(file):
    assert released_shapes(file) == RELEASED[file][0]


@torch.no_grad()
def test_ezvsl(pair):
    tensors = drawn(projected())
    model = load_localizer(tensors)
    found = model.heatmap(*pair)
    assert found.shape == (2, 2, 3) and model.paper == "EZ-VSL" and not model.training
    torch.testing.assert_close(found, Reference(tensors).projected(*pair), atol=1e-5, rtol=0)
    # Where the sound comes from changes with the sound.
    assert not torch.allclose(model.heatmap(pair[0], pair[1].flip(0)), found, atol=1e-3)


@torch.no_grad()
def test_slavc_and_its_momentum_copy(pair):
    tensors = drawn(RELEASED["slavc"][0])
    found = {}
    for prefix in ("", "momentum_"):
        model = load_localizer(tensors, momentum=bool(prefix))
        found[prefix] = model.heatmap(*pair)
        expected = Reference(tensors).projected(*pair, prefix, ("1", "2"))
        torch.testing.assert_close(found[prefix], expected, atol=1e-5, rtol=0)
        assert model.paper == "SLAVC"
    assert not torch.allclose(found[""], found["momentum_"], atol=1e-3)


@torch.no_grad()
def test_lvs(pair):
    tensors = drawn(lvs())
    model = load_localizer(tensors)
    found = model.heatmap(*pair)
    assert found.shape == (2, 4, 6) and model.paper == "LVS"
    torch.testing.assert_close(found, Reference(tensors).lvs(*pair), atol=1e-5, rtol=0)


@torch.no_grad()
def test_object_map(pair):
    shapes = trunk("net") | {"net.conv1.weight": (64, 3, 7, 7), "net.fc.weight": (1000, 512), "net.fc.bias": (1000,)}
    tensors = drawn(shapes)
    model = load_object_map({name.removeprefix("net."): tensor for name, tensor in tensors.items()})
    expected = Reference(tensors).tower("net", (pair[0] - MEAN) / STD).abs().mean(1)
    torch.testing.assert_close(model.heatmap(pair[0]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("file", [*RELEASED, "sslalignment"])
def test_files_are_read_as_published(file, tmp_path):
    # A number stands for a whole tensor, so that the files are small.
    heads = {"head.weight": (4, 512)}
    shapes, envelope, prefix = RELEASED.get(file, (lvs() | heads, "model_state_dict", ""))
    numbers = {name: float(number) for number, name in enumerate(shapes)}
    tensors = {prefix + name: torch.tensor(numbers[name]).expand(shape) for name, shape in shapes.items()}
    torch.save({envelope: tensors, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "best.pth")
    model = load_localizer(tmp_path / "best.pth")
    names = {"ezvsl": "EZ-VSL", "fnac": "EZ-VSL", "slavc": "SLAVC", "lvs": "LVS", "sslalignment": "SSLalignment"}
    assert model.paper == names[file] and not model.training
    assert model.image.layer4[1].bn2.running_var[0] == numbers["imgnet.layer4.1.bn2.running_var"]
    stem = "audnet.conv1.weight" if "audnet.conv1_a.weight" not in shapes else "audnet.conv1_a.weight"
    assert model.audio.conv1.weight.flatten()[0] == numbers[stem]
    for i, head in enumerate({"slavc": ("1", "2"), "ezvsl": ("",), "fnac": ("",)}.get(file, ())):
        assert model.image_projections[i].bias[0] == numbers[f"img_proj{head}.bias"]
        assert model.audio_projections[i].weight[0, 0] == numbers[f"aud_proj{head}.weight"]
    assert len(model.image_projections) == {"slavc": 2, "ezvsl": 1, "fnac": 1}.get(file, 0)


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("file", "lost", "named"),
    [
        ("ezvsl", "aud_proj.", r"audio_projections\.0$"),
        ("slavc", "img_proj2.", r"SLAVC\): image_projections\.1$"),
        ("slavc", "audnet.layer3.0.bn2.", r"audio\.layer3\.0\.bn2$"),
        ("lvs", "imgnet.conv1.", r"LVS\): image\.conv1$"),
    ],
)
def test_a_group_that_is_missing_is_named(file, lost, named):
    shapes = {name: shape for name, shape in RELEASED[file][0].items() if not name.startswith(lost)}
    with torch.device("meta"), pytest.raises(ModelError, match=named):
        load_localizer(on_meta(shapes))


def test_what_does_not_fit_is_refused():
    with torch.device("meta"):
        with pytest.raises(ModelError, match=r"1 tensors have no place in EZ-VSL; the first is other"):
            load_localizer(on_meta(projected() | {"other": (1,)}))
        with pytest.raises(ModelError, match=r"1 tensors have no place in LVS; the first is image\.other"):
            load_localizer(on_meta(lvs() | {"imgnet.other": (1,)}))
        with pytest.raises(ModelError, match="only SLAVC's have one"):
            load_localizer(on_meta(projected()), momentum=True)
        lost = {name: shape for name, shape in RELEASED["slavc"][0].items() if name != "momentum_aud_proj1.bias"}
        load_localizer(on_meta(lost))
        with pytest.raises(ModelError, match=r"audio_projections\.0$"):
            load_localizer(on_meta(lost), momentum=True)


def scipys(samples: np.ndarray, hop: int) -> Tensor:
    density = spectrogram(samples, 16000, nperseg=512, noverlap=512 - hop)[2]
    return torch.from_numpy(np.log(density + 1e-7) / 12).float()[None, None]


@pytest.mark.parametrize("seconds", [1.3, 5, 11])
def test_the_spectrograms_are_scipys(seconds):
    audio = torch.randn(1, round(seconds * 16000)) * torch.linspace(0, 0.6, round(seconds * 16000))
    samples = audio[0].double().clamp(-1, 1).numpy()
    ten = np.tile(samples, 8)[:160000]
    middle = np.tile(samples, 3)[:48000] if seconds < 3 else samples[len(samples) // 2 - 24000 :][:48000]
    for paper, expected in {
        "LVS": scipys(ten, 238),
        "SSLalignment": scipys(ten[56000:104000], 159),
        **dict.fromkeys(("EZ-VSL", "FNAC", "SLAVC"), scipys(middle, 238)),
    }.items():
        found = localizer_spectrogram(audio, paper)
        assert found.shape == (1, 1, 257, {"LVS": 671, "SSLalignment": 299}.get(paper, 200))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_silence_has_a_spectrogram_of_numbers():
    found = localizer_spectrogram(torch.zeros(1, 48000), "EZ-VSL")
    torch.testing.assert_close(found, torch.full_like(found, float(np.log(1e-7) / 12)))


def test_pictures_are_squeezed_or_cut():
    image = torch.rand(1, 3, 12, 16)
    image = F.interpolate(image, (300, 400), mode="bicubic").clamp(0, 1)
    pixels = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    squeezed = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
    cut = Image.fromarray(pixels).resize((298, 224), Image.Resampling.BICUBIC).crop((37, 0, 261, 224))
    for paper, expected in {"EZ-VSL": squeezed, "LVS": cut}.items():
        expected = torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255
        torch.testing.assert_close(prepare_image(image, paper)[0], expected, atol=2 / 255, rtol=0)


def test_tri_map():
    sounding, silent = tri_map(torch.tensor([[[0.2, 0.4, 0.5, 0.65, 0.9]]]))
    torch.testing.assert_close(sounding[0, 0, 3:], torch.tensor([0.5, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(silent[0, 0, :2], torch.tensor([1.0, 0.5]), atol=2e-3, rtol=0)
    assert sounding[0, 0, 2] < 0.01 and silent[0, 0, 2] < 0.04


def stretched(maps: Tensor) -> Tensor:
    return torch.stack([(found - found.min()) / (found.max() - found.min()) for found in maps])


def enlarged(maps: Tensor, mode: str) -> Tensor:
    return F.interpolate(maps[:, None], (224, 224), mode=mode, align_corners=True)[:, 0]


def test_object_guided():
    heatmap, objects = torch.rand(2, 7, 7) * 2 - 1, torch.rand(2, 7, 7) * 3
    expected = stretched(
        0.4 * stretched(enlarged(heatmap, "bilinear")) + 0.6 * stretched(enlarged(objects, "bilinear"))
    )
    for paper in ("LVS", "EZ-VSL", "FNAC", "SSLalignment"):
        torch.testing.assert_close(object_guided(heatmap, objects, paper), expected, atol=1e-5, rtol=0)
    expected = 0.9 * (enlarged(heatmap, "bicubic") + 1) / 2 + 0.1 * enlarged(objects, "bicubic") / 2.5
    torch.testing.assert_close(object_guided(heatmap, objects, "SLAVC"), expected, atol=1e-5, rtol=0)
    assert set(EVALUATORS) == {"LVS", "EZ-VSL", "FNAC", "SLAVC", "SSLalignment"}


def test_objects_are_seen_where_the_heatmap_is_flat():
    objects = torch.rand(1, 7, 7)
    found = object_guided(torch.full((1, 7, 7), 0.3), objects, "EZ-VSL")
    torch.testing.assert_close(found, stretched(enlarged(objects, "bilinear")), atol=1e-5, rtol=0)
