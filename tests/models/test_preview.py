"""The preview's networks: sizes beside the published code, what is picked, and its folder."""

import pytest
import torch

from avlearn.errors import ModelError
from avlearn.models.preview import Preview, PreviewConfig, Skimmer, load_preview, save_preview
from avlearn.models.recognizer import Recognizer, RecognizerConfig

SMALL = {"features": 12, "classes": 3, "hidden": 16, "key": 8}


def built() -> Preview:
    torch.manual_seed(0)
    return Preview(PreviewConfig(**SMALL))


def test_it_is_as_large_as_in_the_published_code():
    """``AudioPreviewModel`` on features of 512: two queries, two keys, an LSTM without weight norm, two weights; and
    the fusion of ``ImageAudioModel``. Counted on their source."""
    skimmer = Skimmer(512, 512, 512, 1024, 512)
    parts = [skimmer.queries, skimmer.keys, skimmer.cell, skimmer.weigh]
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [3_152_896, 527_360, 6_299_648, 2_050]
    with torch.device("meta"):
        preview = Preview(PreviewConfig(image="tsn_r50", audio="resnet18", features=512, classes=200))
    assert preview.sizes == (2048, 512) and preview.fuse[2].out_features == 512


def test_each_window_is_picked_once():
    preview = built().eval()
    sides = torch.randn(7, sum(preview.sizes))
    assert sorted(preview.pick(sides, 7)) == list(range(7)) and sorted(preview.pick(sides, 99)) == list(range(7))
    assert preview.pick(sides, 3) == preview.pick(sides, 7)[:3]
    assert preview.pick(sides[:1], 4) == [0]


def test_files_of_a_batch_do_not_matter_to_each_other():
    preview = built().eval()
    sides = torch.randn(2, 6, sum(preview.sizes))
    there = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    found = [picked for picked, _ in preview.skimmer(sides, there, 4, preview.fuse)]
    assert [int(picked[1]) for picked in found] == preview.pick(sides[1, :4], 4)
    assert [int(picked[0]) for picked in found] == preview.pick(sides[0], 4)


def test_while_learning_features_are_of_all_windows_and_gradients_reach_all():
    preview = built()
    sides = torch.randn(3, 5, sum(preview.sizes))
    there = torch.ones(3, 5, dtype=torch.bool)
    features = torch.stack([found for _, found in preview.skimmer(sides, there, 2, preview.fuse)]).mean(0)
    assert features.shape == (3, 12)
    features.square().sum().backward()
    reached = {name: p.grad is not None for name, p in preview.skimmer.named_parameters()}
    assert all(reached.values()), reached
    preview.eval()
    (picked, found), *_ = preview.skimmer(sides, there, 1, preview.fuse)
    torch.testing.assert_close(found, preview.fuse(sides[torch.arange(3), picked]))


def test_its_folder(tmp_path):
    model = Recognizer(RecognizerConfig(labels=("a", "b", "c")))
    with pytest.raises(ModelError, match="the model has no preview: avlearn preview learns one"):
        load_preview(model)
    model.folder = tmp_path
    preview = built().eval()
    assert save_preview(preview, tmp_path) == tmp_path / "preview"
    sides = torch.randn(4, sum(preview.sizes))
    assert load_preview(model).pick(sides, 3) == preview.pick(sides, 3)
    other = Recognizer(RecognizerConfig(labels=("a", "b")))
    other.folder = tmp_path
    with pytest.raises(ModelError, match="of another model: it tells 3 classes apart"):
        load_preview(other)
