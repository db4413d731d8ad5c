"""Separators: networks against the same computed from tensors by their released names, and what evaluators do."""

import numpy as np
import pytest
import torch
from released_layers import Layers, Shapes, biased, norm, resnet
from released_names import released_shapes
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.released.separators import (
    CLIPSep,
    CoSeparation,
    SoundOfPixels,
    linear_bins,
    load_clipsep,
    load_co_separation,
    load_sound_of_pixels,
    log_bands,
    separate_windows,
)

WIDTHS = (64, 128, 256, 512, 512, 512, 512)


def pixel_unet() -> Shapes:
    shapes, name = norm("bn0", 1), "unet_block.model."
    shapes |= {f"{name}0.weight": (64, 1, 4, 4)} | biased(f"{name}4", 32, 128, 3, 3)
    name += "1.model."
    for level in range(1, 7):
        inputs, outputs = WIDTHS[level - 1 : level + 1]
        shapes[f"{name}1.weight"] = (outputs, inputs, 4, 4)
        if level < 6:
            shapes |= norm(f"{name}2", outputs) | {f"{name}6.weight": (inputs, 2 * outputs, 3, 3)}
            shapes |= norm(f"{name}7", inputs)
            name += "3.model."
        else:
            shapes |= {f"{name}4.weight": (inputs, outputs, 3, 3)} | norm(f"{name}5", inputs)
    return shapes


def transposed_unet() -> Shapes:
    shapes = {}
    for level, (inputs, outputs) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
        down, up = f"audionet_convlayer{level + 1}", f"audionet_upconvlayer{7 - level}"
        shapes |= biased(f"{down}.0", outputs, inputs, 4, 4) | norm(f"{down}.1", outputs)
        shapes |= biased(f"{up}.0", 2 * outputs, inputs, 4, 4, transposed=True)
        shapes |= norm(f"{up}.1", inputs) if level else {}
    return shapes


SYNTHESIZER = {"scale": (32,), "bias": (1,)}
RELEASED: dict[str, Shapes] = {
    "sop_sound": pixel_unet(),
    "sop_frame": resnet("features") | biased("fc", 32, 512, 3, 3),
    "sop_synthesizer": SYNTHESIZER,
    "clipsep": {f"sound_net.{name}": shape for name, shape in pixel_unet().items()}
    | biased("frame_net", 32, 512)
    | {f"synth_net.{name}": shape for name, shape in SYNTHESIZER.items()},
    "cosep_visual": {"conv1.weight": (64, 3, 7, 7)}
    | resnet("feature_extraction")
    | biased("conv1x1.0", 128, 512, 1, 1)
    | norm("conv1x1.1", 128)
    | biased("fc", 512, 6272),
    "cosep_unet": transposed_unet(),
}


def drawn(file: str) -> dict[str, Tensor]:
    """Random, of sizes that let a signal through."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape in RELEASED[file].items():
        tensor = torch.randn(shape) * (2 / max(1, torch.Size(shape[1:]).numel())) ** 0.5
        if len(shape) == 1:
            tensor = torch.rand(shape) + 0.5 if name.endswith(("weight", "var")) else 0.1 * tensor
        tensors[name] = torch.tensor(7) if shape == () else tensor
    for name in ("fc.weight", "frame_net.weight", "audionet_upconvlayer7.0.weight"):  # no saturation
        if name in tensors:
            tensors[name] *= 0.1
    return tensors


class Reference(Layers):
    """The U-Nets by their released names."""

    def pixel_unet(self, x: Tensor, prefix: str = "") -> Tensor:
        return self.block(f"{prefix}unet_block.model.", self.norm(f"{prefix}bn0", x))

    def block(self, name: str, x: Tensor) -> Tensor:
        """A block with those in it."""
        first, outermost = f"{name}1.weight" in self.tensors, f"{name}0.weight" in self.tensors
        y = self.conv(f"{name}{int(first)}", x if outermost else F.leaky_relu(x, 0.2), stride=2, padding=1)
        if outermost:
            y = self.block(f"{name}1.model.", y)
        elif f"{name}2.weight" in self.tensors:
            y = self.block(f"{name}3.model.", self.norm(f"{name}2", y))
        last = 4 if f"{name}4.weight" in self.tensors else 6
        y = F.interpolate(y.relu(), scale_factor=2, mode="bilinear", align_corners=True)
        y = self.conv(f"{name}{last}", y, padding=1)
        return y if outermost else torch.cat([x, self.norm(f"{name}{last + 1}", y)], 1)

    def transposed_unet(self, x: Tensor, seen: Tensor) -> Tensor:
        levels = []
        for level in range(1, 8):
            x = self.conv(f"audionet_convlayer{level}.0", x, stride=2, padding=1)
            x = F.leaky_relu(self.norm(f"audionet_convlayer{level}.1", x), 0.2)
            levels.append(x)
        x = seen[:, :, None, None].repeat(1, 1, *x.shape[2:])
        for level in range(1, 8):
            name = f"audionet_upconvlayer{level}"
            weight, bias = self.tensors[f"{name}.0.weight"], self.tensors[f"{name}.0.bias"]
            x = F.conv_transpose2d(torch.cat([x, levels.pop()], 1), weight, bias, stride=2, padding=1)
            x = self.norm(f"{name}.1", x).relu() if level < 7 else x.sigmoid()
        return x


def mixture(samples: int = 65535) -> Tensor:
    t = torch.arange(samples) / 11025
    return (0.1 * torch.sin(2 * torch.pi * (300 * t + 40 * t**2)) + 0.02 * torch.randn(samples))[None]


def magnitude() -> Tensor:
    """128 frames."""
    return torch.stft(mixture(32600), 1022, 256, window=torch.hann_window(1022), return_complex=True).abs()


def pixel_masks(unet: Tensor, seen: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([(unet * (scale * seen[k])[:, None, None]).sum(1) + bias for k in range(len(seen))], 1).sigmoid()


@pytest.mark.parametrize("file", RELEASED)
def test_the_names_above_are_the_released_ones(file):
    assert released_shapes(file) == RELEASED[file]


@torch.no_grad()
def test_sound_of_pixels():
    audio, frame, synthesizer = drawn("sop_sound"), drawn("sop_frame"), drawn("sop_synthesizer")
    model = load_sound_of_pixels(audio, frame, synthesizer)
    assert isinstance(model, SoundOfPixels) and not model.training
    frames = torch.rand(1, 2, 3, 3, 48, 64)
    features = Reference(frame).resnet("features", frames.flatten(0, 2), dilated=True)
    assert features.shape[2:] == (3, 4)
    places = Reference(frame).conv("fc", features, padding=1)
    seen = places.unflatten(0, (2, 3)).transpose(1, 2).flatten(2).max(2).values.sigmoid()
    torch.testing.assert_close(model.embed_condition(frames)[0], seen, atol=1e-5, rtol=0)
    heard = magnitude()
    unet = Reference(audio).pixel_unet(log_bands(heard)[:, None])
    masks = model(heard, frames)
    assert masks.shape == (1, 2, 256, 128) and masks.std() > 0.05
    torch.testing.assert_close(masks, pixel_masks(unet, seen, **synthesizer), atol=1e-5, rtol=0)


@torch.no_grad()
def test_clipsep():
    tensors = drawn("clipsep")
    heard, embedding = magnitude(), torch.randn(1, 2, 512)
    noise = {"pit_nets.0.weight": torch.rand(32, 32)}
    reference = Reference(tensors)
    seen = (embedding[0] @ tensors["frame_net.weight"].T + tensors["frame_net.bias"]).sigmoid()
    unet = reference.pixel_unet(log_bands(heard)[:, None], "sound_net.")
    expected = pixel_masks(unet, seen, tensors["synth_net.scale"], tensors["synth_net.bias"])
    model = load_clipsep(tensors | noise)
    assert not model.training and (model.sample_rate, model.n_fft) == (16000, 1024)
    torch.testing.assert_close(model(heard, embedding), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_co_separation():
    visual, unet = drawn("cosep_visual"), drawn("cosep_unet")
    model = load_co_separation(visual, unet)
    frames, heard = torch.rand(1, 2, 3, 224, 224), magnitude()
    reference = Reference(visual)
    places = reference.conv("conv1x1.0", reference.resnet("feature_extraction", frames[0]))
    places = reference.norm("conv1x1.1", places).relu().flatten(1)
    seen = places @ visual["fc.weight"].T + visual["fc.bias"]
    bands = log_bands(heard)[:, None].expand(2, -1, -1, -1)
    expected = Reference(unet).transposed_unet(bands, seen).transpose(0, 1)
    masks = model(heard, frames)
    assert masks.shape == (1, 2, 256, 128) and masks.std() > 0.1 and not model.training
    torch.testing.assert_close(masks, expected, atol=1e-5, rtol=0)
    # What sounds changes with what is seen.
    assert not torch.allclose(masks[:, 0], masks[:, 1], atol=1e-3)


def test_frequencies_are_warped_as_published():
    rows = torch.rand(2, 512, 128)
    y = (21 ** torch.linspace(0, 1, 256, dtype=torch.float64) - 11) / 10
    at = (y + 1) / 2 * 511  # corners are aligned
    low = at.floor().long().clamp(0, 510)
    share = (at - low).float()[:, None]
    expected = (rows[:, low] * (1 - share) + rows[:, low + 1] * share + 1e-10).log()
    torch.testing.assert_close(log_bands(rows), expected, atol=2e-3, rtol=0)
    # Back again: a band comes to lie where it was taken.
    ramp = torch.linspace(0, 1, 256)[None, :, None].repeat(1, 1, 128)
    back = linear_bins(ramp, 512)[0, :, 5]
    expected = torch.from_numpy(np.interp(np.arange(512), at.numpy(), ramp[0, :, 0].numpy())).float()
    torch.testing.assert_close(back, expected, atol=1e-4, rtol=0)


def test_windows_are_averaged_and_the_last_ends_with_the_mixture():
    audio, starts = torch.arange(10.0)[None], []

    def part(start: int, window: Tensor) -> Tensor:
        starts.append(start)
        return torch.stack([window, window + start], 1)

    found = separate_windows(part, audio, 4, 3)
    assert starts == [0, 3, 6] and found.shape == (1, 2, 10)
    torch.testing.assert_close(found[0, 0], audio[0])
    torch.testing.assert_close(found[0, 1] - audio[0], torch.tensor([0, 0, 0, 1.5, 3, 3, 4.5, 6, 6, 6]))


class Low(SoundOfPixels):
    """Gives the bands that are lower than the sources' numbers in what is seen."""

    def embed_condition(self, condition: Tensor) -> Tensor:
        return condition

    def masks(self, bands: Tensor, seen: Tensor) -> Tensor:
        assert bands.shape[1:] == (256, 256)
        row = torch.arange(256)[:, None]
        return (row < seen[..., None]).float().expand(-1, -1, -1, bands.shape[2])


@pytest.mark.parametrize("samples", [30000, 65535, 70000])
def test_separate_masks_the_mixture_and_keeps_its_phases(samples):
    t = torch.arange(samples) / 11025
    # At 441 Hz and 3 kHz; the warp's rows for them are 76 and 202.
    low, high = 0.3 * torch.sin(2 * torch.pi * 441 * t), 0.3 * torch.sin(2 * torch.pi * 3000 * t)
    with torch.device("meta"):
        model = Low()
    found = model.separate((low + high)[None], torch.tensor([[[150.0], [256.0], [0.0]]]))
    assert found.shape == (1, 3, samples)
    middle = slice(6000, 28000)  # away from where windows begin and end
    torch.testing.assert_close(found[0, 0, middle], low[middle], atol=5e-3, rtol=0)
    torch.testing.assert_close(found[0, 1, middle], (low + high)[middle], atol=1e-5, rtol=0)
    assert found[0, 2].abs().max() == 0


@torch.no_grad()
def test_separate_shares_by_ratios_where_the_paper_does():
    with torch.device("meta"):
        models = [CoSeparation(), CLIPSep()]
    parts = {}
    for model in models:
        model.step = 65535
        model.embed_condition, model.masks = (
            lambda seen: seen,
            lambda bands, seen: torch.full((1, 1, *bands.shape[1:]), 0.4),
        )
        parts[type(model)] = model.separate(mixture(), torch.zeros(1, 1, 1))
    assert parts[CLIPSep].abs().max() == 0
    assert 0.02 < parts[CoSeparation].std() < 0.05


@pytest.mark.parametrize(("kind", "lower"), [(SoundOfPixels, 1.0), (CoSeparation, 1.0), (CLIPSep, 2.0)])
def test_ends_are_padded_as_when_the_paper_was_published(kind, lower):
    heard = []
    with torch.device("meta"):
        model = kind()
    model.embed_condition = lambda seen: seen
    model.masks = lambda bands, seen: heard.append(bands) or torch.zeros(1, 1, *bands.shape[1:])
    model.separate(torch.full((1, 65535), 0.1), torch.zeros(1, 1, 1))
    first, middle = heard[0][0, 0, [0, 128]].exp()
    torch.testing.assert_close(middle / first, torch.tensor(lower), atol=0.02, rtol=0)


@torch.no_grad()
def test_files_are_read_as_published(tmp_path):
    # A number stands for a whole tensor, so that the files are small.
    numbers = {}
    for file, shapes in RELEASED.items():
        numbers[file] = {name: float(number) for number, name in enumerate(shapes)}
        prefix = "module." if file == "clipsep" else ""
        tensors = {prefix + name: torch.tensor(numbers[file][name]).expand(shape) for name, shape in shapes.items()}
        torch.save(tensors, tmp_path / f"{file}.pth")
    model = load_sound_of_pixels(*(tmp_path / f"sop_{part}.pth" for part in ("sound", "frame", "synthesizer")))
    deepest = "unet_block.model.1.model.3.model.3.model.3.model.3.model.3.model."
    assert model.unet.up[6][1].running_var[0] == numbers["sop_sound"][f"{deepest}5.running_var"]
    assert model.unet.down[6][0].weight[0, 0, 0, 0] == numbers["sop_sound"][f"{deepest}1.weight"]
    assert model.project.bias[0] == numbers["sop_frame"]["fc.bias"]
    assert model.synthesizer.scale[0] == numbers["sop_synthesizer"]["scale"]
    assert model.synthesizer.bias == numbers["sop_synthesizer"]["bias"]
    model = load_clipsep(tmp_path / "clipsep.pth")
    assert model.project.bias[0] == numbers["clipsep"]["frame_net.bias"]
    model = load_co_separation(tmp_path / "cosep_visual.pth", tmp_path / "cosep_unet.pth")
    assert model.up[0][0].bias[0] == numbers["cosep_unet"]["audionet_upconvlayer7.0.bias"]
    assert model.image.features[0].weight[0, 0, 0, 0] == numbers["cosep_visual"]["feature_extraction.0.weight"]


def on_meta(file: str, lost: str = "nothing") -> dict[str, Tensor]:
    shapes = {name: shape for name, shape in RELEASED[file].items() if not name.startswith(lost)}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


SOP, COSEP = ("sop_sound", "sop_frame", "sop_synthesizer"), ("cosep_visual", "cosep_unet")


@pytest.mark.parametrize(
    ("load", "files", "lost", "named"),
    [
        (load_sound_of_pixels, SOP, "unet_block.model.1.model.2.", r"Sound of Pixels\): unet\.down\.1\.1$"),
        (load_sound_of_pixels, SOP, "features.7.1.bn2.", r"frame\.features\.7\.1\.bn2$"),
        (load_sound_of_pixels, SOP, "scale", r"synthesizer$"),
        (load_clipsep, ["clipsep"], "frame_net.", r"CLIPSep\): project$"),
        (load_clipsep, ["clipsep"], "sound_net.unet_block.model.4.", r"unet\.up\.0\.0$"),
        (load_co_separation, COSEP, "conv1x1.1.", r"Co-Separation\): reduce\.1$"),
        (load_co_separation, COSEP, "audionet_upconvlayer7.", r"up\.0\.0$"),
    ],
)
def test_a_group_that_is_missing_is_named(load, files, lost, named):
    with torch.device("meta"), pytest.raises(ModelError, match=named):
        load(*(on_meta(file, lost) for file in files))


def test_what_does_not_fit_is_refused():
    with torch.device("meta"):
        with pytest.raises(ModelError, match=r"1 tensors have no place in CLIPSep; the first is other"):
            load_clipsep(on_meta("clipsep") | {"other": torch.empty(1)})
        with pytest.raises(ModelError, match=r"1 tensors have no place in Co-Separation; the first is unet\.other"):
            load_co_separation(on_meta("cosep_visual"), on_meta("cosep_unet") | {"other": torch.empty(1)})
