"""The tools work on the model's device, and say there what they say on the processor."""

import pytest
import torch
from pretend_device import pretend_device

from avlearn.apply.classify import classify_file
from avlearn.apply.embed import embed_files
from avlearn.apply.localize.file import localize_file
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.data.world import WorldConfig, make_world
from avlearn.models.folder import load


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    make_world(folder, 1, 5, WorldConfig.preset("duets"), workers=1)
    return next((folder / "clips").glob("*.mp4"))


@pytest.mark.parametrize(
    "tool",
    [
        lambda clip, model, folder: sync_by_model(clip, model),
        lambda clip, model, folder: localize_file(clip, model, folder / "heat.mp4", sources=True),
        lambda clip, model, folder: separate_file(clip, model, folder / "tracks"),
        lambda clip, model, folder: classify_file(clip, model),
        lambda clip, model, folder: embed_files([clip], model, folder / "features.npz"),
    ],
    ids=["sync", "localize", "separate", "classify", "embed"],
)
def test_a_tool_says_the_same_on_another_device(tool, clip, untrained, tmp_path):
    folders = [tmp_path / name for name in ("cpu", "cuda")]
    for folder in folders:
        folder.mkdir()
    expected = tool(clip, load(untrained), folders[0]).to_dict()
    with pretend_device() as device, torch.inference_mode():
        found = tool(clip, load(untrained).to(device), folders[1]).to_dict()
    assert str(found).replace(str(folders[1]), str(folders[0])) == str(expected)
    for path in folders[0].rglob("*.*"):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes(), path.name
