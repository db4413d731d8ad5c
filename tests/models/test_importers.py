"""Released weights find their places: for each layout the whole list of names, and no group may be missing."""

from pathlib import Path

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.importers import find_layout, load_weights

KEYS = Path(__file__).resolve().parents[3] / "shared" / "reference" / "state-dicts" / "video"
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
    ("timesformer_official", "timesformer_b", "timesformer"),
    ("hf_timesformer", "timesformer_b", "hugging face timesformer"),
]


def released(name: str) -> dict[str, torch.Tensor]:
    """Tensors of the names and shapes of a released file, each with a value of its own."""
    if not KEYS.is_dir():
        pytest.skip("the lists of names are not here")
    tensors = {}
    for number, line in enumerate((KEYS / f"{name}.txt").read_text().splitlines()):
        if "\t" in line:
            key, _, shape = line.partition("\t")
            sides = [int(side) for side in shape.strip("() ").split(",") if side.strip()]
            tensors[key] = torch.full(sides, float(number))
    return tensors


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
