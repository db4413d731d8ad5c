"""Caffe2's blobs find their places: PySlowFast's, video-nonlocal-net's and VMZ's names."""

import pickle

import pytest
import torch
from torch import nn

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.weights.importers import find_layout

DEPTHS = (3, 4, 6, 3)
FLAT, INFLATED, SLOW, FAST = ((1,),) * 4, ((3,), (3, 1), (3, 1), (1, 3)), ((1,), (1,), (3,), (3,)), ((3,),) * 4
Shapes = dict[str, tuple[int, ...]]


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}_{part}": (channels,) for part in ("s", "b", "rm", "riv")}


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}_w": (outputs, inputs), f"{name}_b": (outputs,)}


def bottlenecks(stem, kernels, width=64, path="", joined=(0, 0, 0, 0), nonlocal_after=((), (), (), ())) -> Shapes:
    """One pathway of 50 layers."""
    names = {f"{path}conv1_w": (width, 3, stem, 7, 7)} | norm(f"{path}res_conv1_bn", width)
    inputs = width
    for i, depth in enumerate(DEPTHS):
        planes, inputs = width * 2**i, inputs + joined[i]
        for j in range(depth):
            time = kernels[i][j % len(kernels[i])]
            convs = {
                "2a": (planes, inputs, time, 1, 1),
                "2b": (planes, planes, 1, 3, 3),
                "2c": (4 * planes, planes, 1, 1, 1),
            }
            if j == 0:
                convs["1"] = (4 * planes, inputs, 1, 1, 1)
            for branch, shape in convs.items():
                at = f"{path}res{i + 2}_{j}_branch{branch}"
                names |= {f"{at}_w": shape} | norm(f"{at}_bn", shape[0])
            inputs = 4 * planes
            if j in nonlocal_after[i]:
                at, half = f"nonlocal_conv{i + 2}_{j}", inputs // 2
                for part in ("theta", "phi", "g"):
                    names |= {f"{at}_{part}_w": (half, inputs, 1, 1, 1), f"{at}_{part}_b": (half,)}
                names |= {f"{at}_out_w": (inputs, half, 1, 1, 1), f"{at}_out_b": (inputs,)} | norm(f"{at}_bn", inputs)
    return names


def one_pathway(*args, **options) -> Shapes:
    width = options.get("width", 64)
    return bottlenecks(*args, **options) | linear("pred", 400, 32 * width)


def slowfast() -> Shapes:
    names = bottlenecks(1, SLOW, joined=(16, 64, 128, 256)) | bottlenecks(5, FAST, 8, "t_")
    ends = {"t_pool1": 8} | {f"t_res{s}_{DEPTHS[s - 2] - 1}_branch2c_bn": 8 * 2**s for s in (2, 3, 4)}
    for at, channels in ends.items():
        names |= {f"{at}_subsample_w": (2 * channels, channels, 7, 1, 1)}
        names |= norm(f"{at}_subsample_bn", 2 * channels)
    return names | linear("pred", 400, 2304)


def vmz(kind: str, depths: tuple[int, ...], times=(3, 3, 3, 3), stem=3) -> Shapes:
    """VMZ's networks: ``dense``, ``r2plus1d``, ``ir-csn`` or ``ip-csn``."""
    names = {"conv1_w": (64, 3, stem, 7, 7)} | norm("conv1_spatbn_relu", 64)
    if kind == "r2plus1d":
        names |= {"conv1_middle_w": (45, 3, 1, 7, 7), "conv1_w": (64, 45, 3, 1, 1)}
        names |= norm("conv1_middle_spatbn_relu", 45)
    inputs, i = 64, 0
    for group, depth in enumerate(depths):
        for j in range(depth):
            planes = 64 * 2**group
            outputs = 4 * planes if "csn" in kind else planes
            for name, shape in vmz_block(kind, inputs, planes, outputs, times[group]).items():
                names[f"comp_{i}_{name}"] = shape
            if inputs != outputs or (group and not j):
                names |= {f"shortcut_projection_{i}_w": (outputs, inputs, 1, 1, 1)}
                names |= norm(f"shortcut_projection_{i}_spatbn", outputs)
            inputs, i = outputs, i + 1
    return names | linear("last_out_L400", 400, inputs)


def vmz_block(kind: str, inputs: int, planes: int, outputs: int, time: int) -> Shapes:
    if "csn" in kind:
        numbers = (1, 3, 4) if kind == "ir-csn" else (1, 2, 3)
        channelwise = (planes, 1, 3, 3, 3)
        shapes = [(planes, inputs, 1, 1, 1), channelwise, (outputs, planes, 1, 1, 1)]
    else:
        numbers, shapes = (1, 2), [(planes, inputs, time, 3, 3), (planes, planes, time, 3, 3)]
    names: Shapes = {}
    for number, shape in zip(numbers, shapes, strict=True):
        middle = None
        if kind == "r2plus1d":
            width = 27 * shape[0] * shape[1] // (9 * shape[1] + 3 * shape[0])
            middle, shape = (width, shape[1], 1, 3, 3), (shape[0], width, 3, 1, 1)
        elif kind == "ip-csn" and number == 2:
            middle = (planes, planes, 1, 1, 1)
        if middle:
            names |= {f"conv_{number}_middle_w": middle} | norm(f"spatbn_{number}_middle", middle[0])
        names |= {f"conv_{number}_w": shape} | norm(f"spatbn_{number}", shape[0])
    return names


def vmz_c3d() -> Shapes:
    names, inputs = {}, 3
    widths = {"1a": 64, "2a": 128, "3a": 256, "3b": 256, "4a": 512, "4b": 512, "5a": 512, "5b": 512}
    for name, width in widths.items():
        names |= {f"conv{name}_w": (width, inputs, 3, 3, 3), f"conv{name}_b": (width,)} | norm(f"conv{name}_bn", width)
        inputs = width
    return names | linear("fc6", 4096, 4608) | linear("fc7", 4096, 4096) | linear("last_out_L400", 400, 4096)


def blobs(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Each with a value of its own."""
    return {name: torch.tensor(float(number)).expand(shape) for number, (name, shape) in enumerate(shapes.items())}


EIGHTEEN = (2, 2, 2, 2)
NONLOCAL = ((), (1, 3), (1, 3, 5), ())
# Blobs, encoder, layout, and where some of the blobs go.
CASES = {
    "slowfast": (
        slowfast(),
        "slowfast_r50_8x8",
        "caffe2 pyslowfast",
        {
            "conv1_w": "slow.stem.0.weight",
            "t_conv1_w": "fast.stem.0.weight",
            "t_res_conv1_bn_riv": "fast.stem.1.running_var",
            "t_pool1_subsample_w": "laterals.0.0.weight",
            "t_pool1_subsample_bn_s": "laterals.0.1.weight",
            "t_res4_5_branch2c_bn_subsample_w": "laterals.3.0.weight",
            "t_res4_5_branch2c_bn_subsample_bn_rm": "laterals.3.1.running_mean",
            "t_res4_5_branch2c_bn_rm": "fast.layer3.5.conv3.1.running_mean",
            "t_res4_5_branch2c_bn_b": "fast.layer3.5.conv3.1.bias",
            "res2_0_branch1_w": "slow.layer1.0.downsample.0.weight",
            "res2_0_branch1_bn_s": "slow.layer1.0.downsample.1.weight",
            "res5_2_branch2b_bn_riv": "slow.layer4.2.conv2.1.running_var",
            "pred_w": "classifier.weight",
            "pred_b": "classifier.bias",
        },
    ),
    "slow": (
        one_pathway(1, SLOW),
        "slow_r50_4x16",
        "caffe2 pyslowfast",
        {"res4_0_branch2a_w": "layer3.0.conv1.0.weight"},
    ),
    "c2d": (one_pathway(1, FLAT), "c2d_r50", "caffe2 pyslowfast", {"res_conv1_bn_rm": "stem.1.running_mean"}),
    "i3d non-local": (
        one_pathway(5, INFLATED, nonlocal_after=NONLOCAL),
        "i3d_org_nl_r50",
        "caffe2 pyslowfast",
        {
            "nonlocal_conv4_5_theta_w": "layer3.5.nonlocal_block.conv_theta.weight",
            "nonlocal_conv4_5_g_b": "layer3.5.nonlocal_block.conv_g.bias",
            "nonlocal_conv3_1_bn_s": "layer2.1.nonlocal_block.bn.weight",
            "nonlocal_conv3_1_bn_riv": "layer2.1.nonlocal_block.bn.running_var",
        },
    ),
    "r2plus1d": (
        vmz("r2plus1d", EIGHTEEN),
        "r2plus1d_18",
        "caffe2 vmz",
        {
            "conv1_middle_w": "stem.0.weight",
            "conv1_middle_spatbn_relu_rm": "stem.1.running_mean",
            "conv1_w": "stem.3.weight",
            "conv1_spatbn_relu_b": "stem.4.bias",
            "comp_3_conv_2_middle_w": "layer2.1.conv2.0.0.weight",
            "comp_3_spatbn_2_middle_riv": "layer2.1.conv2.0.1.running_var",
            "comp_3_conv_2_w": "layer2.1.conv2.0.3.weight",
            "comp_3_spatbn_2_s": "layer2.1.conv2.1.weight",
            "shortcut_projection_4_w": "layer3.0.downsample.0.weight",
            "shortcut_projection_4_spatbn_b": "layer3.0.downsample.1.bias",
            "last_out_L400_b": "classifier.bias",
        },
    ),
    "ir-csn": (
        vmz("ir-csn", DEPTHS),
        "ir_csn_50",
        "caffe2 vmz",
        {
            "comp_8_conv_3_w": "layer3.1.conv2.0.weight",
            "comp_8_spatbn_3_s": "layer3.1.conv2.1.weight",
            "comp_8_conv_4_w": "layer3.1.conv3.0.weight",
            "shortcut_projection_0_w": "layer1.0.downsample.0.weight",
            "conv1_spatbn_relu_riv": "stem.1.running_var",
        },
    ),
    "ip-csn": (
        vmz("ip-csn", DEPTHS),
        "ip_csn_50",
        "caffe2 vmz",
        {
            "comp_15_conv_2_middle_w": "layer4.2.conv2.0.0.weight",
            "comp_15_spatbn_2_middle_s": "layer4.2.conv2.0.1.weight",
            "comp_15_conv_2_w": "layer4.2.conv2.0.2.weight",
            "comp_15_spatbn_2_s": "layer4.2.conv2.1.weight",
        },
    ),
    "r3d": (vmz("dense", EIGHTEEN), "r3d_18", "caffe2 vmz dense", {"comp_7_conv_2_w": "layer4.1.conv2.0.weight"}),
    "rmc4": (
        vmz("dense", EIGHTEEN, (1, 1, 3, 3), 1),
        "rmc4_18",
        "caffe2 vmz dense",
        {"comp_4_spatbn_1_b": "layer3.0.conv1.1.bias"},
    ),
    "c3d": (
        vmz_c3d(),
        "c3d_bn",
        "caffe2 vmz c3d",
        {
            "conv5b_w": "conv5b.conv.weight",
            "conv5b_b": "conv5b.conv.bias",
            "conv5b_bn_b": "conv5b.bn.bias",
            "fc7_w": "classifier.fc7.weight",
            "last_out_L400_w": "classifier.fc8.weight",
        },
    ),
}


@pytest.mark.parametrize(("shapes", "name", "layout", "places"), CASES.values(), ids=list(CASES))
def test_every_tensor_finds_its_place(shapes, name, layout, places):
    tensors = blobs(shapes)
    assert find_layout(tensors).name == layout
    model = create_model(name, weights=tensors, num_classes=400)
    found = {key: t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert all(float(t.min()) == float(t.max()) for t in found.values())
    # The variances of some networks make up for another epsilon.
    values = {key: round(float(t.flatten()[0])) for key, t in found.items()}
    assert sorted(values.values()) == list(range(len(tensors)))
    assert model.loaded.left == []
    numbers = {blob: number for number, blob in enumerate(tensors)}
    assert {blob: values[place] for blob, place in places.items()} == {blob: numbers[blob] for blob in places}


def test_a_pickle_with_what_training_needed(tmp_path):
    arrays = {name: torch.randn(shape).numpy() for name, shape in one_pathway(5, SLOW, width=8).items()}
    momentum = {f"{name}_momentum": array for name, array in arrays.items() if name.endswith(("_w", "_b", "_s"))}
    more = {"lr": torch.tensor(0.1).numpy(), "model_iter": torch.tensor([7]).numpy()}
    (tmp_path / "fast.pkl").write_bytes(pickle.dumps({"blobs": arrays | momentum | more, "cfg": "..."}, 2))
    model = create_model("fast_only_r50", weights=tmp_path / "fast.pkl", num_classes=400)
    assert torch.equal(model.layer4[2].conv3[1].running_var, torch.from_numpy(arrays["res5_2_branch2c_bn_riv"]))
    assert set(model.loaded.left) == momentum.keys() | more.keys()


def test_frozen_batch_norm_is_a_scale_and_a_shift():
    shapes = one_pathway(5, SLOW, width=8)
    tensors = {name: torch.randn(shape) for name, shape in shapes.items() if not name.endswith(("_rm", "_riv"))}
    model = create_model("fast_only_r50", weights=tensors, num_classes=400).eval()
    scale, shift = (tensors[f"res3_1_branch2b_bn_{part}"].view(-1, 1, 1, 1) for part in "sb")
    x = torch.randn(2, 16, 1, 3, 3)
    assert torch.allclose(model.layer2[1].conv2[1](x), x * scale + shift, atol=1e-5)
    # But a norm that lost its statistics is missing.
    tensors = {name: torch.randn(shape) for name, shape in shapes.items() if name != "res3_1_branch2b_bn_riv"}
    with pytest.raises(ModelError, match=r"layer2\.1\.conv2\.1$"):
        create_model("fast_only_r50", weights=tensors)


@pytest.mark.parametrize(("case", "eps"), [("r2plus1d", 1e-3), ("ip-csn", 1e-3), ("r3d", 1e-5), ("slow", 1e-5)])
def test_the_epsilon_that_they_were_trained_with(case, eps):
    shapes, name, _, _ = CASES[case]
    tensors = {blob: torch.rand(shape) for blob, shape in shapes.items()}
    model = create_model(name, weights=tensors)
    assert {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm3d)} == {eps}
    layout = find_layout(tensors).name
    trained = 1e-3 if "vmz" in layout else 1e-5
    riv = tensors["conv1_spatbn_relu_riv" if "vmz" in layout else "res_conv1_bn_riv"]
    norm = model.stem[4] if case == "r2plus1d" else model.stem[1]
    assert torch.allclose(norm.running_var + norm.eps, riv + trained, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("blob", "group"),
    [
        ("comp_5_spatbn_2", r"layer3\.1\.conv2\.1"),
        ("comp_5_conv_2", r"layer3\.1\.conv2\.0"),
        ("shortcut_projection_4_w", r"layer3\.0\.downsample\.0"),
    ],
)
def test_a_group_that_is_missing_is_named(blob, group):
    tensors = {name: t for name, t in blobs(vmz("dense", EIGHTEEN)).items() if not name.startswith(blob)}
    with pytest.raises(ModelError, match=f"{group}$"):
        create_model("r3d_18", weights=tensors)
