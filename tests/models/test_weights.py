"""Weights from files, folders, addresses and by name, with what goes with them."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import SafetensorError
from torch import nn

from avlearn.errors import ModelError, OutputError
from avlearn.models import checkpoint, create_model, download, weights
from avlearn.models.checkpoint import read_tensors
from avlearn.models.folder import import_weights, load_encoder
from avlearn.models.importers import load_weights
from avlearn.models.preprocessing import Preprocessing, preprocessing_of
from avlearn.models.registry import list_models
from avlearn.models.weights import Released, released_weights


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves ``files`` (path: bytes) as the web and Hugging Face's hub do, and counts what is asked."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            data = files.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            if data is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_header("ETag", f'"{stated.get(self.path, digest(data))}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            asked.append(self.path)
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_):
            pass

    asked: list[str] = []
    stated: dict[str, str] = {}  # hashes that differ from the files'
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    web.files, web.asked, web.stated = files, asked, stated
    web.address = f"http://127.0.0.1:{web.server_port}"
    yield web
    web.shutdown()


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
    with pytest.raises(ModelError, match=r"cannot fetch http.*Not Found"):
        create_model("dsconv_tiny", weights=server.address + "/nothing.pth")


def test_files_of_one_name_are_kept_apart_and_can_be_pinned(server, file):
    server.files["/a/small.pth"] = file.read_bytes()
    server.files["/b/small.pth"] = b"something else"
    good = server.address + "/a/small.pth"
    assert download.download(good) != download.download(server.address + "/b/small.pth")
    assert download.download(f"{good}#sha256={digest(file.read_bytes())}").read_bytes() == file.read_bytes()
    with pytest.raises(ModelError, match="not the file that was published"):
        download.download(f"{good}#sha256={'0' * 64}")


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
        theirs, weights.Layout("theirs", "", dict, {"shortcut_norm": False}, (0.1,) * 3, (0.2,) * 3)
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
    released = Released("x3d_xs", "theirs", "", "", server.address + "/x3d.pth", needs)
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
    assert preprocessing_of("vggish") is None


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
