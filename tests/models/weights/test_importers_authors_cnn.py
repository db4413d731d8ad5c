"""Convolutional networks that authors released with code of their own: each tensor finds its place."""

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.weights.importers import find_layout

Shapes = dict[str, tuple[int, ...]]
MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def biased(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def i3d(channels: int) -> Shapes:
    names: Shapes = {}

    def unit(name: str, inputs: int, outputs: int, size: int) -> None:
        names.update({f"{name}.conv3d.weight": (outputs, inputs, size, size, size)} | norm(f"{name}.bn", outputs))

    unit("Conv3d_1a_7x7", channels, 64, 7)
    unit("Conv3d_2b_1x1", 64, 64, 1)
    unit("Conv3d_2c_3x3", 64, 192, 3)
    for name, (inputs, w0, i1, w1, i2, w2, w3) in MIXED.items():
        unit(f"Mixed_{name}.b0", inputs, w0, 1)
        unit(f"Mixed_{name}.b1a", inputs, i1, 1)
        unit(f"Mixed_{name}.b1b", i1, w1, 3)
        unit(f"Mixed_{name}.b2a", inputs, i2, 1)
        unit(f"Mixed_{name}.b2b", i2, w2, 3)
        unit(f"Mixed_{name}.b3b", inputs, w3, 1)
    return names | biased("logits.conv3d", 400, 1024, 1, 1, 1)


def s3d_g() -> Shapes:
    names = {"conv1.conv1.weight": (64, 24, 2, 4, 4)} | norm("conv1.bn1", 64)

    def unit(name: str, inputs: int, outputs: int, separable: bool = False) -> None:
        space = (1, 3, 3) if separable else (1, 1, 1)
        names.update({f"{name}.conv1.weight": (outputs, inputs, *space)} | norm(f"{name}.bn1", outputs))
        if separable:
            names.update({f"{name}.conv2.weight": (outputs, outputs, 3, 1, 1)} | norm(f"{name}.bn2", outputs))

    unit("conv_2b", 64, 64)
    unit("conv_2c", 64, 192, True)
    names |= biased("gating.fc", 192, 192)
    for block, (inputs, w0, i1, w1, i2, w2, w3) in MIXED.items():
        name = f"mixed_{block}"
        unit(f"{name}.conv_b0", inputs, w0)
        unit(f"{name}.conv_b1_a", inputs, i1)
        unit(f"{name}.conv_b1_b", i1, w1, True)
        unit(f"{name}.conv_b2_a", inputs, i2)
        unit(f"{name}.conv_b2_b", i2, w2, True)
        unit(f"{name}.conv_b3_b", inputs, w3)
        for branch, width in enumerate((w0, w1, w2, w3)):
            names |= biased(f"{name}.gating_b{branch}.fc", width, width)
    names |= biased("fc", 512, 1024)
    names |= {"text_module.word_embd.weight": (66250, 300)} | biased("text_module.fc1", 2048, 300)
    return names | biased("text_module.fc2", 512, 2048)


def p3d_63(channels: int) -> Shapes:
    names = {"conv1_custom.weight": (64, channels, 1, 7, 7)} | norm("bn1", 64)
    inputs = 64
    for group, depth in enumerate((3, 4, 6, 3)):
        planes, one = 64 * 2**group, (1, 1) if group == 3 else (1, 1, 1)
        for j in range(depth):
            at = f"layer{group + 1}.{j}."
            convs = {"1": (planes, inputs, *one)}
            if group == 3:
                convs["_normal"] = (planes, planes, 3, 3)
            else:
                convs |= {"2": (planes, planes, 1, 3, 3), "3": (planes, planes, 3, 1, 1)}
            convs["4"] = (4 * planes, planes, *one)
            for number, shape in convs.items():
                names |= {f"{at}conv{number}.weight": shape} | norm(f"{at}bn{number}", shape[0])
            if j == 0:
                names |= {f"{at}downsample.0.weight": (4 * planes, inputs, *one)}
                names |= norm(f"{at}downsample.1", 4 * planes)
            inputs = 4 * planes
    return names | biased("fc", 400, 2048)


def c3d(numbered: bool) -> Shapes:
    names: Shapes = {}
    inputs = 3
    convs = {"conv1": (0, 64), "conv2": (3, 128), "conv3a": (6, 256), "conv3b": (8, 256), "conv4a": (11, 512)}
    convs |= {"conv4b": (13, 512), "conv5a": (16, 512), "conv5b": (18, 512)}
    for name, (number, width) in convs.items():
        names |= biased(f"features.{number}" if numbered else name, width, inputs, 3, 3, 3)
        inputs = width
    for number, (outputs, inner) in enumerate(((4096, 8192), (4096, 4096), (487, 4096))):
        names |= biased(f"classifier.{3 * number}" if numbered else f"fc{6 + number}", outputs, inner)
    return names


def numbered_tensors(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Each with a value of its own."""
    return {name: torch.tensor(float(number)).expand(shape) for number, (name, shape) in enumerate(shapes.items())}


# Names, encoder, its options, classes, layout, and where some of the tensors go.
CASES = {
    "i3d": (
        i3d(3),
        "i3d_inception",
        {},
        400,
        "pytorch-i3d",
        {
            "Conv3d_2c_3x3.bn.running_var": "features.3.1.running_var",
            "Mixed_4f.b1b.conv3d.weight": "features.12.branch1.1.0.weight",
            "Mixed_5c.b3b.bn.bias": "features.15.branch3.1.1.bias",
        },
    ),
    "i3d flow": (i3d(2), "i3d_inception", {"in_chans": 2}, 400, "pytorch-i3d", {}),
    "s3d-g": (
        s3d_g(),
        "s3d_g",
        {},
        512,
        "howto100m s3d-g",
        {
            "conv1.bn1.weight": "features.0.1.weight",
            "conv_2c.conv2.weight": "features.3.1.0.weight",
            "conv_2c.bn2.running_mean": "features.3.1.1.running_mean",
            "gating.fc.weight": "features.3.2.fc.weight",
            "mixed_3b.conv_b2_b.bn1.bias": "features.5.branch2.1.0.1.bias",
            "mixed_3b.conv_b2_b.bn2.bias": "features.5.branch2.1.1.1.bias",
            "mixed_3b.conv_b2_a.bn1.bias": "features.5.branch2.0.1.bias",
            "mixed_5c.gating_b0.fc.bias": "features.15.branch0.3.fc.bias",
            "mixed_5c.gating_b3.fc.bias": "features.15.branch3.2.fc.bias",
            "fc.bias": "classifier.bias",
        },
    ),
    "p3d": (
        p3d_63(3),
        "p3d_63",
        {},
        400,
        "p3d",
        {"layer4.1.conv_normal.weight": "layer4.1.conv_normal.weight", "fc.weight": "classifier.weight"},
    ),
    "p3d flow": (p3d_63(2), "p3d_63", {"in_chans": 2}, 400, "p3d", {}),
    "c3d": (c3d(False), "c3d", {}, 487, "c3d", {"conv2.bias": "conv2a.conv.bias", "fc8.bias": "classifier.fc8.bias"}),
    "c3d by number": (
        c3d(True),
        "c3d",
        {},
        487,
        "c3d",
        {"features.16.bias": "conv5a.conv.bias", "classifier.3.weight": "classifier.fc7.weight"},
    ),
}


@pytest.mark.parametrize(("shapes", "name", "options", "classes", "layout", "places"), CASES.values(), ids=list(CASES))
def test_every_tensor_finds_its_place(shapes, name, options, classes, layout, places):
    tensors = numbered_tensors(shapes)
    assert find_layout(tensors).name == layout
    model = create_model(name, weights=tensors, num_classes=classes, **options)
    found = {key: t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert all(float(t.min()) == float(t.max()) for t in found.values())
    values = {key: float(t.flatten()[0]) for key, t in found.items()}
    numbers = {key: number for number, key in enumerate(tensors)}
    assert sorted(values.values()) == sorted(n for key, n in numbers.items() if not key.startswith("text_module."))
    assert model.loaded.left == []
    assert {key: values[place] for key, place in places.items()} == {key: numbers[key] for key in places}


def test_the_first_convolution_of_s3d_g_sees_the_pixels_of_its_cells():
    torch.manual_seed(0)
    tensors = {name: torch.randn(shape) for name, shape in s3d_g().items() if not name.startswith("text_module.")}
    model = create_model("s3d_g", weights=tensors)
    x = torch.rand(1, 3, 6, 8, 10)
    # Cells of 2 x 2 x 2 as channels, and one step of padding of two cells cut off before.
    cells = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [B, C, T, t, Y, y, X, x]
    cells = cells.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)
    expected = torch.nn.functional.conv3d(cells, tensors["conv1.conv1.weight"], padding=(1, 2, 2))[:, :, 1:, 1:, 1:]
    with torch.no_grad():
        found = model.features[0][0](x)
    assert found.shape == expected.shape == (1, 64, 3, 4, 5)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_s3d_g_with_the_small_stem():
    tensors = numbered_tensors(s3d_g()) | {"conv1.conv1.weight": torch.zeros(64, 3, 3, 7, 7)}
    create_model("s3d_g", weights=tensors, space_to_depth=False)
    with pytest.raises(ModelError, match=r"features\.0\.0$"):
        create_model("s3d_g", weights=tensors)


def test_c3d_from_caffe_takes_colours_in_our_order():
    tensors = {name: torch.randn(shape) for name, shape in c3d(False).items()}
    model = create_model("c3d", weights=tensors)
    x = torch.rand(1, 3, 4, 8, 8)
    blue_first = x.flip(1) * 255 - torch.tensor([90.0, 98.0, 102.0]).view(3, 1, 1, 1)
    expected = torch.nn.functional.conv3d(blue_first, tensors["conv1.weight"], tensors["conv1.bias"], padding=1)
    with torch.no_grad():
        found = model.conv1a.conv(model.normalized(x))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_flow_has_no_mean_but_no_motion():
    assert create_model("p3d_63", in_chans=2).mean.tolist() == [0.5, 0.5]
    assert create_model("p3d_63").mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("shapes", "name", "missing", "group"),
    [
        (i3d(3), "i3d_inception", "Mixed_4c.b2b.bn", r"features\.9\.branch2\.1\.1"),
        (s3d_g(), "s3d_g", "conv1.conv1.weight", r"features\.0\.0"),
        (c3d(False), "c3d", "conv1.weight", r"conv1a\.conv"),
    ],
)
def test_a_group_that_is_missing_is_named(shapes, name, missing, group):
    tensors = {key: t for key, t in numbered_tensors(shapes).items() if not key.startswith(missing)}
    with pytest.raises(ModelError, match=f"{group}$"):
        create_model(name, weights=tensors)
