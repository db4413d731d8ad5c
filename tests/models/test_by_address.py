"""Model folders at addresses: fetched once, held to what folders here are held to, and told by their address."""

import pickle
import shutil

import fsspec
import pytest
import torch

import avlearn
from avlearn.apply.classify import load_classifier
from avlearn.apply.encoder_alone import load_features
from avlearn.config import RecognizerConfig
from avlearn.errors import ModelError
from avlearn.models import by_address, calibration, folder, in_distribution, preview
from avlearn.models.named import check_name, model_folder
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import save_recognizer
from avlearn.models.weights.checkpoint import write_tensors
from avlearn.models.weights.source import open_weights
from avlearn.remote import cache
from avlearn.remote.cache import LIMIT


@pytest.fixture(autouse=True)
def another_process(copies):
    """One process works with one version of a model."""
    by_address._fetched.cache_clear()


@pytest.fixture
def published(nginx, untrained):
    """The address of a run with a model."""
    shutil.copytree(untrained, nginx.folder / "run" / "model")
    (nginx.folder / "run" / "model" / "secret.txt").write_text("not a part of it")
    return f"{nginx.address}/run"


def alike(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_a_model_is_fetched_once_with_what_belongs_to_it(published, untrained, nginx, copies):
    for address in (published, f"{published}/model/", f"{published}/model"):
        assert alike(avlearn.load(address), avlearn.load(untrained))
        check_name(address)
    (entry,) = [path for path in copies.iterdir() if not path.name.startswith(".")]
    assert sorted(path.name for path in entry.iterdir()) == sorted(path.name for path in untrained.iterdir())
    asked = nginx.requests()
    assert not [path for path, _, _ in asked if "secret" in path]
    weights = [sent for path, _, sent in asked if path.endswith("model/model.safetensors")]
    assert weights.count(1) == 3  # of each address it was asked what is there
    assert sum(weights) == 3 + (untrained / "model.safetensors").stat().st_size
    assert model_folder(published) == entry and not nginx.requests()  # what this process found once, it keeps
    shutil.rmtree(entry)
    assert alike(avlearn.load(f"{published}/model"), avlearn.load(untrained))


def test_all_that_a_folder_may_hold_is_asked_for():
    names = {
        calibration.SYNC, calibration.ON_SCREEN, calibration.TRACKS, calibration.QUALITY, folder.OBJECTIVE,
        folder.OBJECTIVE_WEIGHTS, in_distribution.FILE, f"{preview.FOLDER}/config.json",
        f"{preview.FOLDER}/model.safetensors", "README.md",
    }  # fmt: skip
    assert set(by_address._OTHERS) == names


def test_calibrations_come_along(nginx):
    shutil.copytree(model_folder("default"), nginx.folder / "default")
    ours, theirs = avlearn.load(f"{nginx.address}/default"), avlearn.load("default")
    assert ours.calibrations == theirs.calibrations and ours.calibrations.sync


@pytest.mark.parametrize("kind", ["nginx", "memory", "whole"])
def test_other_networks_and_servers(nginx, tmp_path, kind):
    config = RecognizerConfig(labels=("a", "b"), trained_on="nothing")
    save_recognizer(Recognizer(config).eval(), tmp_path / "m", "# m\n")
    shutil.copytree(tmp_path / "m", nginx.folder / "m")
    address = {"nginx": f"{nginx.address}/m", "whole": f"{nginx.address}/whole/m", "memory": "memory://models/m"}[kind]
    fsspec.filesystem("memory").put(str(tmp_path / "m"), "/models/m", recursive=True)
    for load in (load_features, load_classifier):
        assert alike(load(address), load(tmp_path / "m"))
    with pytest.raises(ModelError, match=f"^{address} holds a recognizer"):
        avlearn.load(address)


def test_a_folder_from_a_stranger(published, nginx, monkeypatch):
    place = nginx.folder / "run" / "model"
    whole = (place / "model.safetensors").read_bytes()

    class Attack:
        def __reduce__(self):
            return (shutil.rmtree, (str(place),))

    bad = {
        pickle.dumps(Attack()): "is no weight file that can be read",
        whole[:-1000]: "is no weight file that can be read",
        b"": "is no weight file that can be read",
    }
    for data, said in bad.items():
        by_address._fetched.cache_clear()
        (place / "model.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match=f"^{published} is not a readable model folder: .*{said}") as caught:
            avlearn.load(published)
        assert "\n" not in str(caught.value)
    assert place.is_dir()
    by_address._fetched.cache_clear()
    (place / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is not of the format avlearn\.model/1"):
        avlearn.load(published)


def test_what_is_no_model_is_told_in_a_line(published, nginx, monkeypatch):
    (nginx.folder / "run" / "model" / "model.safetensors").rename(nginx.folder / "elsewhere")
    refusals = {
        f"{nginx.address}/none": "is no model folder: .*none/model/config.json is not there",
        published: "is no model folder: .*model.safetensors is not there",
        f"{nginx.address}/forbidden": "config.json may not be read",
        "memory://none": "is no model folder: memory://none/model/config.json is not there",
        "nowhere://none": "Protocol not known",
    }
    for address, said in refusals.items():
        with pytest.raises(ModelError, match=said) as caught:
            avlearn.load(address)
        assert str(caught.value).startswith(address) and "\n" not in str(caught.value)
    (nginx.folder / "elsewhere").rename(nginx.folder / "run" / "model" / "model.safetensors")
    monkeypatch.setenv(LIMIT, "0.000001")
    with pytest.raises(ModelError, match=f"copies of remote files 1.0 kB together: {LIMIT} allows more"):
        avlearn.load(published)


def test_weights_at_any_address(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    tensors = avlearn.create_model("r2plus1d_18").state_dict()
    write_tensors(tensors, path)
    fsspec.filesystem("memory").pipe("/w.safetensors", path.read_bytes())
    found = open_weights("memory://w.safetensors", "r2plus1d_18")
    assert found.tensors.keys() == tensors.keys()
    assert "memory://w.safetensors: no hash goes with it" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"cannot fetch memory://none\.pth is not there"):
        open_weights("memory://none.pth", "r2plus1d_18")
    assert cache.cache_folder().is_dir()
