"""Weights from files, folders, addresses and by name, with what goes with them."""

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import SafetensorError
from torch import nn
from web import digest

from avlearn.errors import ModelError, OutputError
from avlearn.models import create_model
from avlearn.models.registry import list_models
from avlearn.models.weights import checkpoint, download
from avlearn.models.weights import source as weights
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.encoder_folder import import_weights, load_encoder
from avlearn.models.weights.importers import load_weights
from avlearn.models.weights.preprocessing import Preprocessing, preprocessing_of
from avlearn.models.weights.released import Released, released_weights


@pytest.fixture
def file(tmp_path):
    """Weights of the smallest encoder."""
    torch.manual_seed(0)
    model = create_model("dsconv_tiny", num_classes=5)
    path = tmp_path / "small.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


def test_a_classifier_that_stays_random_is_told(file):
    said = "trained on other classes, so classifier.bias, classifier.weight stay random"
    with pytest.warns(UserWarning, match=f"^small.pth: {said}$"):
        model = create_model("dsconv_tiny", weights=file, num_classes=7)
    assert model.loaded.left == ["classifier.bias", "classifier.weight"]
    with pytest.warns(UserWarning, match=f"^the weights: {said}$"):
        load_weights(model, read_tensors(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_model("dsconv_tiny", weights=file, num_classes=5)
        create_model("dsconv_tiny", weights=file)


def test_a_hash_in_the_name_is_checked_and_a_file_fetched_once(server, file):
    data = file.read_bytes()
    path = f"/zoo/small-{digest(data)[:8]}.pth"
    server.files[path] = data
    model = create_model("dsconv_tiny", weights=server.address + path, num_classes=5)
    assert model.loaded.taken == len(model.state_dict())
    create_model("dsconv_tiny", weights=server.address + path)
    assert server.asked == [path]
    server.files["/zoo/small-01234567.pth"] = data
    with pytest.raises(ModelError, match="not the file that was published"):
        create_model("dsconv_tiny", weights=server.address + "/zoo/small-01234567.pth")
    assert not list((file.parent / "cache").rglob("*01234567*"))
    by_hand = "without a network, put nothing-01234567.pth into .* by hand"
    with pytest.raises(ModelError, match=rf"cannot fetch http.*Not Found; {by_hand}"):
        create_model("dsconv_tiny", weights=server.address + "/nothing-01234567.pth")


def test_files_of_one_name_are_kept_apart_and_can_be_pinned(secure, file, capsys):
    server = secure
    server.files["/a/small.pth"] = file.read_bytes()
    server.files["/b/small.pth"] = b"something else"
    good = "https://files.test/a/small.pth"
    assert download.download(good) != download.download("https://files.test/b/small.pth")
    assert capsys.readouterr().err.count("no hash goes with it, so what comes is not checked") == 2
    assert download.download(f"{good}#sha256={digest(file.read_bytes())}").read_bytes() == file.read_bytes()
    with pytest.raises(ModelError, match="not the file that was published"):
        download.download(f"{good}#sha256={'0' * 64}")
    md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    assert download.download(f"{server.address}/a/small.pth#md5={md5}").read_bytes() == file.read_bytes()
    with pytest.raises(ModelError, match="its md5 is"):
        download.download(f"{server.address}/a/small.pth#md5={'0' * 32}")


def test_a_file_that_is_cut_short_is_gone_on_with(server, tmp_path, monkeypatch):
    data = bytes(range(256)) * 400
    path = f"/small-{digest(data)[:8]}.pth"
    server.files[path] = data
    server.cuts[path] = [1000, 500]
    assert download.download(server.address + path).read_bytes() == data
    assert server.asked == [path, f"{path}1000-", f"{path}1500-"]
    # A process that is stopped leaves its part, which the next one goes on with, unless it was of another file.
    kept = tmp_path / "cache" / "checkpoints"
    for part, asked in ((data[:700], [f"{path}700-"]), (b"x" * 700, [f"{path}700-", path]), (data * 2, None)):
        (kept / path[1:]).unlink()
        (kept / f".{path[1:]}.part").write_bytes(part)
        server.asked.clear()
        assert download.download(server.address + path).read_bytes() == data
        assert asked is None or server.asked == asked
    # One that never comes is said to be cut short, and nothing lies where the whole file would.
    (kept / path[1:]).unlink()
    server.cuts[path] = [10] * 20
    with pytest.raises(ModelError, match="cannot fetch"):
        download.download(server.address + path)
    assert not (kept / path[1:]).exists()


def test_the_cache_is_trusted_as_far_as_it_is_whole(secure, tmp_path):
    secure.files["/a.pth"] = b"of the first day" * 100
    address = "https://files.test/a.pth"
    path = download.download(address)
    assert download.download(address) == path and secure.asked == ["/a.pth"]
    for damage in (lambda: path.write_bytes(path.read_bytes()[:100]), lambda: path.write_bytes(b"x" * 1600),
                   lambda: path.with_name(f"{path.name}.json").unlink()):  # fmt: skip
        damage()
        secure.asked.clear()
        assert download.download(address).read_bytes() == secure.files["/a.pth"] and secure.asked == ["/a.pth"]
    pinned = f"https://files.test/a.pth#sha256={digest(secure.files['/a.pth'])}"
    other = download.download(pinned)
    other.write_bytes(b"damaged")
    assert download.download(pinned).read_bytes() == secure.files["/a.pth"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://[bad/a.pth#sha256=01234567", "no address"),
        ("http://host:99999999/a.pth#sha256=01234567", "no address"),
        ("https://ho st/a.pth", "spaces"),
        ("https://host/a\n.pth", "spaces"),
        ("https://host/\u00e4.pth", "spaces"),
        ("https://", "no address"),
        ("https:///a.pth", "names no host"),
        ("https://host/", "names no file"),
        ("https://host/" + "a" * 300 + ".pth", "more than 200 letters"),
        ("https://host/a.pth#sha256=xyz", "neither sha256"),
        ("http://host/a.pth", "http without a hash"),
        ("hf://", "no repository"),
        ("hf://a b", "no repository"),
    ],
)
def test_addresses_that_are_none(address, said, server):
    with pytest.raises(ModelError, match=said):
        download.download(address)


def test_what_servers_do_is_one_line(server, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"
    answers = {
        "status": b"no HTTP at all\r\n\r\n",
        "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcd",
        "words": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabcd",
        "endless": b"HTTP/1.1 200 OK\r\n\r\nabcd",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nzz\r\n",
        "packed": good + b"Content-Encoding: gzip\r\n\r\nabcd",
        "other": good + b"\r\nabcd",
        "loop": b"HTTP/1.1 302 Found\r\nLocation: /loop-01234567.pth\r\nContent-Length: 0\r\n\r\n",
        "away": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        "header": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        "nothing": b"",
    }
    for name, answer in answers.items():
        server.raw[f"/{name}-01234567.pth"] = answer
        with pytest.raises(ModelError, match=r"cannot fetch|not the file that was published") as caught:
            download.download(f"{server.address}/{name}-01234567.pth")
        assert len(str(caught.value).splitlines()) == 1, name
    for name, value in (("no_proxy", ""), ("http_proxy", "http://[bad")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match="cannot fetch"):
        download.download(f"{server.address}/other-01234567.pth")


def test_https_does_not_lead_to_http(secure):
    secure.raw["/a.pth"] = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/b.pth\r\nContent-Length: 0\r\n\r\n"
    request = urllib.request.Request("https://files.test/a.pth")
    with pytest.raises(ValueError, match="which is not https"):
        download._NoWayDown().redirect_request(request, None, 302, "Found", {}, "http://127.0.0.1:1/b.pth")
    assert download._NoWayDown().redirect_request(request, None, 302, "Found", {}, "https://other.test/b.pth")


def test_by_name(server, file, monkeypatch):
    data = file.read_bytes()
    address = f"{server.address}/small-{digest(data)[:8]}.pth"
    server.files[f"/small-{digest(data)[:8]}.pth"] = data
    monkeypatch.setattr(
        weights, "released_weights", lambda: (Released("dsconv_tiny", "ours", "world", "", address, {}),)
    )
    assert create_model("dsconv_tiny", weights="ours").loaded.layout == "avlearn"
    with pytest.raises(ModelError, match=r"no weight file theirs; weights of dsconv_tiny.*by name: ours"):
        create_model("dsconv_tiny", weights="theirs")


def test_the_hub_states_its_hashes(server, file, tmp_path):
    """In a process of its own, as its user would: the hub's address is read once."""
    data = file.read_bytes()
    server.files["/them/small/resolve/main/pytorch_model.bin"] = data
    server.files["/them/other/resolve/main/model.safetensors"] = data
    server.stated["/them/other/resolve/main/model.safetensors"] = "0" * 64

    def run(repository: str, out: str) -> subprocess.CompletedProcess:
        command = f"weights import hf://{repository} --as dsconv_tiny -o {tmp_path / out}"
        return subprocess.run(
            [sys.executable, "-m", "avlearn", *command.split()],
            env={**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hub"), "NO_PROXY": "*"},
            capture_output=True,
            text=True,
        )

    done = run("them/small", "small")
    assert done.returncode == 0, done.stderr
    assert "5 classes" in done.stdout
    wrong = run("them/other", "other")
    assert wrong.returncode == 2
    assert "is not the file that was published" in wrong.stderr
    assert not (tmp_path / "other").exists()


def test_a_folder_holds_all_that_is_needed(file, tmp_path):
    folder = tmp_path / "models" / "small"
    found = import_weights(file, "dsconv_tiny", folder)
    assert (found.classes, found.report.left) == (5, [])
    encoder, preprocessing = load_encoder(folder)
    x = torch.rand(1, 3, 8, 32, 32)
    assert torch.equal(encoder(x), create_model("dsconv_tiny", weights=file, num_classes=5).eval()(x))
    assert not encoder.training
    assert preprocessing is None
    assert "dsconv_tiny" in (folder / "README.md").read_text()
    with pytest.raises(ModelError, match="holds weights of dsconv_tiny, not of r3d_18"):
        create_model("r3d_18", weights=folder)
    with pytest.raises(ModelError, match="no folder of an encoder"):
        load_encoder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weight file"):
        load_encoder(folder)
    with pytest.raises(OutputError, match="cannot write"):
        import_weights(file, "dsconv_tiny", file)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(file, tmp_path, monkeypatch):
    def full(_: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OutputError, match=r"cannot write .*model\.safetensors: .*No space left"):
        import_weights(file, "dsconv_tiny", tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_statistics_and_options_travel_with_the_weights(tmp_path):
    """From a file of mmaction2's, whose networks saw other means than those of the paper's authors."""
    theirs = {name: tensor for name, tensor in create_model("x3d_s", shortcut_norm=False).state_dict().items()}
    source = weights.Weights(
        theirs, weights.WeightLayout("theirs", "", dict, {"shortcut_norm": False}, (0.1,) * 3, (0.2,) * 3)
    )
    model = create_model("x3d_s", weights=source)
    assert model.config["options"] == {"shortcut_norm": False}
    assert model.mean.tolist() == pytest.approx([0.1] * 3)
    torch.save(theirs, tmp_path / "x3d.pth")
    with pytest.raises(ModelError, match=r"x3d\.pth: .* parameters are missing"):
        import_weights(tmp_path / "x3d.pth", "x3d_s", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_what_a_file_does_not_show_is_known_by_its_name(server, tmp_path, monkeypatch):
    theirs = tmp_path / "x3d.pth"
    torch.save(create_model("x3d_xs", shortcut_norm=False).state_dict(), theirs)
    server.files["/x3d.pth"] = theirs.read_bytes()
    needs = {"shortcut_norm": False, "mean": [0.1] * 3, "std": [0.2] * 3}
    address = f"{server.address}/x3d.pth#sha256={digest(theirs.read_bytes())}"
    released = Released("x3d_xs", "theirs", "", "", address, needs)
    monkeypatch.setattr(weights, "released_weights", lambda: (released,))
    model = create_model("x3d_xs", weights="theirs")
    assert model.config["options"] == {"shortcut_norm": False}
    assert model.std.tolist() == pytest.approx([0.2] * 3)
    # And it goes with them into their folder.
    import_weights("theirs", "x3d_xs", tmp_path / "folder")
    again, _ = load_encoder(tmp_path / "folder")
    assert again.config["options"] == {"shortcut_norm": False}
    assert torch.equal(again.std, model.std)


def test_videos_become_what_torchvision_makes_of_them():
    clip = torch.randint(0, 256, (40, 90, 120, 3), dtype=torch.uint8)
    theirs = torchvision.models.video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    made = Preprocessing(16, 2, (128, 171), (112, 112))(clip)
    expected = theirs(clip[4:36:2].permute(0, 3, 1, 2))
    normalized = create_model("r2plus1d_18").normalized(made[None])[0]
    assert made.shape == (3, 16, 112, 112)
    assert float((normalized - expected).abs().max()) < 0.5 / 255 / 0.21 + 1e-4  # theirs is rounded to 8 bits
    theirs = torchvision.models.video.MViT_V1_B_Weights.KINETICS400_V1.transforms()
    made = Preprocessing(4, 4, 256, (224, 224))(clip)
    normalized = (made - 0.45) / 0.225
    assert float((normalized - theirs(clip[12:28:4].permute(0, 3, 1, 2))).abs().max()) < 0.5 / 255 / 0.225 + 1e-4


def test_a_short_video_stays_at_its_last_frame():
    clip = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 8, 8, 3)
    made = Preprocessing(4, 2, 8, (8, 8))(clip)
    assert (made[0, :, 0, 0] * 255).round().tolist() == [0, 2, 2, 2]


def test_the_list_is_of_encoders_that_exist():
    found = released_weights()
    assert {released.encoder for released in found} <= set(list_models())
    assert len({(released.encoder, released.name) for released in found}) == len(found)
    assert all(download.is_address(released.address) for released in found)
    for released in found:
        if "download.pytorch.org" in released.address or "openmmlab" in released.address or "XDC" in released.address:
            assert download._NAMED.search(released.address), released.address
        with torch.device("meta"):
            create_model(released.encoder, **{k: v for k, v in released.needs.items() if k not in ("mean", "std")})
    assert preprocessing_of("dsconv_tiny") is None  # ours, of no paper


def test_torchvisions_addresses_are_torchvisions():
    theirs = {
        weight.url
        for name in torchvision.models.list_models(torchvision.models.video)
        for weight in torchvision.models.get_model_weights(name)
    }
    ours = {released.address for released in released_weights() if released.name.startswith("torchvision")}
    assert ours == theirs


def test_classes_of_a_head_that_is_more_than_linear(tmp_path):
    torch.save(create_model("x3d_xs", num_classes=7).state_dict(), tmp_path / "x.pth")
    assert import_weights(tmp_path / "x.pth", "x3d_xs", tmp_path / "x").classes == 7
    torch.save(create_model("x3d_xs").state_dict(), tmp_path / "y.pth")
    assert import_weights(tmp_path / "y.pth", "x3d_xs", tmp_path / "y").classes is None
    assert isinstance(load_encoder(tmp_path / "y")[0].classifier, nn.Identity)
    assert json.loads((tmp_path / "y" / "config.json").read_text())["num_classes"] is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": 5}, "name"),
        ({"name": "x"}, "no encoder is called 'x'"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 10**12}, "num_classes"),
        ({"num_classes": 10**6}, "classifier.*shape"),
        ({"options": {"weights": "http://127.0.0.1:9/a.pth"}}, "no options of a network"),
        ({"options": {"in_chans": 4096}}, "the shape|channels"),
        ({"options": []}, "options"),
        ({"mean": [0.5]}, "one has 1 numbers, the other 3"),
        ({"mean": [0.5], "std": [0.2]}, "has 3 channels"),
        ({"std": [0, 0, 0]}, "std"),
        ({"preprocessing": {"frames": 0}}, "preprocessing: frames"),
        ({"preprocessing": 5}, "preprocessing"),
        ({"more": 5}, "more"),
    ],
)
def test_a_folder_is_held_to_its_schema(tmp_path, values, said):
    torch.save(create_model("x3d_xs", num_classes=2).state_dict(), tmp_path / "x.pth")
    folder = tmp_path / "x"
    import_weights(tmp_path / "x.pth", "x3d_xs", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    with pytest.raises(ModelError, match=said) as caught:
        load_encoder(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_options_that_come_with_weights_take_no_more_than_these(tmp_path):
    torch.save(create_model("x3d_xs").state_dict(), tmp_path / "x.pth")
    layout = weights.WeightLayout("theirs", "", dict, {"in_chans": 4096})
    source = weights.Weights(read_tensors(tmp_path / "x.pth"), layout, "theirs")
    with pytest.raises(ModelError, match=r"theirs: encoder 'c3d_bn' has .* parameters with"):
        create_model("c3d_bn", weights=source)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    tensors = create_model("dsconv_tiny").state_dict()
    first = next(iter(tensors))
    tensors[first][:] = float("nan")
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=f"a.pth: {first} holds numbers that are not finite"):
        create_model("dsconv_tiny", weights=tmp_path / "a.pth")
