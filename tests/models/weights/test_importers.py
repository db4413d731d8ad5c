"""Released weights find their places: for each layout the whole list of names, and no group may be missing."""

import pytest
import torch
from released_names import released_shapes

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.heads import RoIHead
from avlearn.models.video.nonlocal_block import NonLocal
from avlearn.models.weights.importers import find_layout, load_weights

PAIRS = [
    ("tv_r3d_18", "r3d_18", "torchvision"),
    ("tv_mc3_18", "mc3_18", "torchvision"),
    ("tv_r2plus1d_18", "r2plus1d_18", "torchvision"),
    ("tv_s3d", "s3d", "torchvision"),
    ("tv_swin3d_t", "swin3d_t", "torchvision"),
    ("tv_mvit_v1_b", "mvit_v1_b_16x4", "torchvision"),
    ("tv_mvit_v2_s", "mvit_v2_s_16x4", "torchvision"),
    ("vmz_ip_csn_152", "ip_csn_152", "torchvision"),
    ("vmz_ir_csn_152", "ir_csn_152", "torchvision"),
    ("psf_slowfast_8x8_r50", "slowfast_r50_8x8", "pyslowfast"),
    ("psf_slowfast_ava", "slowfast_r50_8x8", "pyslowfast"),
    ("psf_slow_8x8_r50", "slow_r50_8x8", "pyslowfast"),
    ("psf_c2d_8x8_r50", "c2d_r50", "pyslowfast"),
    ("psf_i3d_8x8_r50", "i3d_r50", "pyslowfast"),
    ("psf_i3d_nln_8x8_r50", "i3d_nl_r50", "pyslowfast"),
    ("psf_x3d_m", "x3d_m", "pyslowfast x3d"),
    ("psf_mvit_b_16x4", "mvit_v1_b_16x4", "pyslowfast mvit"),
    ("psf_mvitv2_s_16x4", "mvit_v2_s_16x4", "pyslowfast mvit"),
    ("ptv_slowfast_r50", "slowfast_r50_8x8", "pytorchvideo"),
    ("ptv_slow_r50", "slow_r50_8x8", "pytorchvideo"),
    ("ptv_c2d_r50", "c2d_r50", "pytorchvideo"),
    ("ptv_i3d_r50", "i3d_r50", "pytorchvideo"),
    ("ptv_csn_r101", "ir_csn_101", "pytorchvideo"),
    ("ptv_r2plus1d_r50", "r2plus1d_r50", "pytorchvideo"),
    ("ptv_x3d_m", "x3d_m", "pytorchvideo x3d"),
    ("ptv_mvit_base_16x4", "mvit_v1_b_16x4", "pytorchvideo mvit"),
    ("hf_vivit", "vivit_b", "hugging face vivit"),
    ("mma_c2d", "c2d_r50", "mmaction2"),
    ("mma_i3d_r50_32", "i3d_org_r50", "mmaction2"),
    ("mma_slowonly_r50_8x8", "slow_r50_8x8", "mmaction2"),
    ("mma_ipcsn_r152", "ip_csn_152", "mmaction2 csn"),
    ("mma_ircsn_r152", "ir_csn_152", "mmaction2 csn"),
    ("mma_c3d", "c3d", "mmaction2 c3d"),
    ("mma_i3d_nl_dot", "i3d_org_nl_r50", "mmaction2"),
    ("mma_slowfast_r50_4x16", "slowfast_r50_4x16", "mmaction2 slowfast"),
    ("mma_slowfast_r50_8x8", "slowfast_r50_8x8", "mmaction2 slowfast"),
    ("mma_r2plus1d_r34", "r2plus1d_34", "mmaction2 r2plus1d"),
    ("mma_r2plus1d_r34_112", "r2plus1d_34", "mmaction2 r2plus1d"),
    ("mma_x3d_m", "x3d_m", "mmaction2 x3d"),
    ("mma_timesformer", "timesformer_b", "mmaction2 timesformer"),
    ("mma_mvit_s", "mvit_v2_s_16x4", "mmaction2 mvit"),
    ("timesformer_official", "timesformer_b", "timesformer"),
    ("hf_timesformer", "timesformer_b", "hugging face timesformer"),
]


def released(name: str) -> dict[str, torch.Tensor]:
    """Tensors of the names and shapes of a released file, each with a value of its own."""
    shapes = released_shapes(name)
    return {key: torch.full(shape, float(number)) for number, (key, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize(("file", "name", "layout"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_every_parameter_finds_its_place(file, name, layout):
    tensors = released(file)
    heads = [key for key in tensors if tensors[key].ndim == 2 or key.endswith(("proj.weight", "classifier.1.weight"))]
    classes = tensors[heads[-1]].shape[0]
    assert find_layout(tensors).name == layout
    model = create_model(name, weights=tensors, num_classes=classes)
    # Each tensor's value went to one parameter (or the third of one, where query, key and value were apart), none is
    # left as it was, and no two are the same.
    pieces = [p.chunk(3) if ".qkv." in name else (p,) for name, p in model.named_parameters()]
    assert all(bool((piece == piece.flatten()[0]).all()) for parts in pieces for piece in parts)
    values = [tuple(float(piece.flatten()[0]) for piece in parts) for parts in pieces]
    assert len(set(values)) == len(values)
    assert {value for parts in values for value in parts} <= {float(t.flatten()[0]) for t in tensors.values()}
    assert all(list(parts) == sorted(parts) for parts in values)  # query, key, value: as they are listed


@pytest.mark.parametrize(
    ("file", "name", "eps"),
    [
        ("ptv_csn_r101", "ir_csn_101", 1e-5),
        ("ptv_r2plus1d_r50", "r2plus1d_r50", 1e-5),
        ("mma_ircsn_r152", "ir_csn_152", 1e-3),
        ("vmz_ir_csn_152", "ir_csn_152", 1e-3),
        ("psf_slow_8x8_r50", "slow_r50_8x8", 1e-5),
        ("tv_s3d", "s3d", 1e-3),
    ],
)
def test_normalisations_have_the_epsilon_of_the_code_that_trained_them(file, name, eps):
    model = create_model(name, weights=released(file))
    assert {module.eps for module in model.modules() if isinstance(module, torch.nn.BatchNorm3d)} == {eps}


def test_csn_of_mmaction2_is_standardised_as_by_its_authors():
    model = create_model("ir_csn_152", weights=released("mma_ircsn_r152"))
    assert model.mean.tolist() == pytest.approx([0.43216, 0.39467, 0.37645])
    assert model.std.tolist() == pytest.approx([0.22803, 0.22145, 0.21699])


def test_a_file_by_create_model(tmp_path):
    torch.save({"model_state": released("psf_slow_8x8_r50"), "cfg": "..."}, tmp_path / "slow.pyth")
    model = create_model("slow_r50_8x8", weights=tmp_path / "slow.pyth", num_classes=400)
    assert float(model.stem[0].weight.flatten()[0]) == 0
    assert float(model.classifier.weight.std()) == 0
    with pytest.raises(ModelError, match=r"slow\.pyth.*are missing"):
        create_model("slowfast_r50_8x8", weights=tmp_path / "slow.pyth", num_classes=400)


def test_other_classes_keep_their_classifier():
    tensors = released("tv_r3d_18")
    model = create_model("r3d_18", num_classes=7)
    before = model.classifier.weight.clone()
    with pytest.warns(UserWarning, match=r"other classes, so classifier\.bias, classifier\.weight stay random"):
        load_weights(model, tensors)
    assert torch.equal(model.classifier.weight, before)
    assert not torch.equal(model.stem[0].weight, create_model("r3d_18").stem[0].weight)
    load_weights(create_model("r3d_18"), tensors)


def test_a_group_that_is_missing_is_named():
    tensors = {key: value for key, value in released("tv_r3d_18").items() if not key.startswith("layer3.1.conv2")}
    with pytest.raises(ModelError, match=r"layer3\.1\.conv2\.0, layer3\.1\.conv2\.1"):
        load_weights(create_model("r3d_18"), tensors)
    with pytest.raises(ModelError, match="are missing or have another shape"):
        load_weights(create_model("r2plus1d_18"), released("tv_r3d_18"))
    with pytest.raises(ModelError, match="are missing"):
        load_weights(create_model("r3d_18"), released("psf_slow_8x8_r50"))


def test_a_detector_of_pyslowfast_scores_boxes():
    tensors = released("psf_slowfast_ava")
    for part in ("weight", "bias"):
        tensors[f"head.projection.{part}"] = tensors[f"head.projection.{part}"][:80]
    model = create_model("slowfast_r50_8x8", weights=tensors, num_classes=80, output_stride=16).eval()
    head = RoIHead(model.num_features, 80, model.feature_info.stride[2], aligned=False).eval()
    head.classifier = model.classifier
    assert float(head.classifier.bias.std()) == 0
    boxes = torch.tensor([[0, 0, 0, 31, 31], [1, 4, 8, 20, 30]], dtype=torch.float32)
    with torch.inference_mode():
        assert head(model.forward_features(torch.rand(2, 3, 4, 32, 32)), boxes).shape == (2, 80)


def test_slowfast_of_mmaction2_reads_slow_channels_first_and_picks_its_own_frames():
    tensors = released("mma_slowfast_r50_8x8")
    tensors["cls_head.fc_cls.weight"] = torch.arange(2304.0).expand(400, -1)  # 256 fast channels, then 2048 slow ones
    model = create_model("slowfast_r50_8x8", weights=tensors, num_classes=400)
    assert model.classifier.weight[7].tolist() == [*range(256, 2304), *range(256)]
    assert [len(lateral) for lateral in model.laterals] == [1, 1, 1, 1]
    assert sum(parameter.numel() for parameter in model.parameters()) == 34_566_488 - 928
    model.mean, model.std = torch.zeros(3), torch.ones(3)
    slow, _ = model._split(torch.arange(16.0).view(1, 1, 16, 1, 1).expand(1, 3, 16, 1, 1))
    assert slow[0, 0].flatten().tolist() == [0, 4, 8, 12]


def test_pools_of_mmaction2_are_its_own():
    pool = create_model("c2d_r50", weights=released("mma_c2d")).stem[3]
    assert (pool.kernel_size, pool.padding) == ((1, 3, 3), (0, 0, 0))
    pool = create_model("i3d_org_r50", weights=released("mma_i3d_r50_32")).stem[3]
    assert (pool.kernel_size, pool.stride, pool.padding) == ((1, 3, 3), (2, 2, 2), (0, 1, 1))
    assert create_model("i3d_org_r50").stem[3].kernel_size == (2, 3, 3)
    pool = create_model("slow_r50_8x8", weights=released("mma_slowonly_r50_8x8")).stem[3]
    assert (pool.kernel_size, pool.padding) == ((1, 3, 3), (0, 1, 1))
    assert torch.allclose(
        create_model("c2d_r50", weights=released("mma_c2d")).mean, torch.tensor([0.485, 0.456, 0.406])
    )


def test_r2plus1d_of_mmaction2_has_two_eps_and_other_shortcuts():
    model = create_model("r2plus1d_34", weights=released("mma_r2plus1d_r34"), num_classes=400)
    eps = {name: module.eps for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm3d)}
    inner = [name for name in eps if name == "stem.1" or name.endswith(".0.1")]
    assert len(inner) == 36 < len(eps) == 72
    assert all(value == (1e-5 if name in inner else 1e-3) for name, value in eps.items())
    assert model.layer2[0].downsample[0][0].out_channels == 54
    assert model.feature_info.stride == (8, 32, 32)
    with pytest.raises(ModelError, match="option 'variant': Input should be 'authors' or 'mmaction2'"):
        create_model("r2plus1d_34", variant="torchvision")


@pytest.mark.parametrize("kind", ["embedded", "dot", "gaussian"])
def test_nonlocal_blocks_of_mmaction2_pool_what_is_projected(kind):
    torch.manual_seed(0)
    block = NonLocal(4, kind, style="mmaction2").eval()
    x = torch.randn(1, 4, 2, 4, 4)
    theta, phi = (x, block.pool(x)) if kind == "gaussian" else (block.conv_theta(x), block.pool(block.conv_phi(x)))
    products = theta.flatten(2).transpose(1, 2) @ phi.flatten(2)  # [1, 32, 8], not scaled
    weights = products / 8 if kind == "dot" else products.softmax(-1)
    gathered = weights @ block.pool(block.conv_g(x)).flatten(2).transpose(1, 2)
    wanted = x + block.bn(block.conv_out(gathered.transpose(1, 2).unflatten(2, (2, 4, 4))))
    torch.testing.assert_close(block(x), wanted)
    assert block.conv_out.bias is None
    with pytest.raises(ValueError, match="pyslowfast or mmaction2, not tsm"):
        NonLocal(4, kind, style="tsm")


@pytest.mark.parametrize("name", ["timesformer_joint_b", "timesformer_space_b"])
def test_undivided_timesformers_of_mmaction2(name):
    places = [
        ("blocks.", "transformer_layers.layers."),
        ("attn.qkv.", "attentions.0.attn.in_proj_"),
        ("attn.proj.", "attentions.0.attn.out_proj."),
        ("norm1.", "norms.0."),
        ("norm2.", "norms.1."),
        ("mlp.fc1.", "ffns.0.layers.0.0."),
        ("mlp.fc2.", "ffns.0.layers.1."),
        ("patch_embed.proj.", "patch_embed.projection."),
    ]
    tensors = {}
    with torch.device("meta"):
        ours = create_model(name, num_classes=3).state_dict()
    for number, (key, value) in enumerate(ours.items()):
        for place, theirs in places:
            key = key.replace(place, theirs)
        key = key.replace("classifier.", "cls_head.fc_cls.") if key.startswith("classifier.") else f"backbone.{key}"
        tensors[key] = torch.full((), float(number)).expand(value.shape)
    model = create_model(name, weights=tensors, num_classes=3)
    assert find_layout(tensors).name == "mmaction2 timesformer"
    assert [float(value.flatten()[0]) for value in model.state_dict().values()] == list(range(len(ours)))
    assert model.mean.tolist() == model.std.tolist() == [0.5, 0.5, 0.5]
