"""Annotated clips: a bright square at its box at the annotated instant alone, found by networks that look for it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_device import pretend_device
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import resnet18
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.data.manifest import Event, Row, read_manifest, write_manifest
from avlearn.errors import DataError
from avlearn.evaluation import evaluate
from avlearn.evaluation.boxes import annotated, box_metrics
from avlearn.media import write_video
from avlearn.metrics import MetricResult
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.released.localizers import Localizer, ObjectMap

FPS, SECONDS, INSTANT = 10, 8, 5.0
BOXES = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.5, 1.0, 1.0), (0.5, 0.5, 1.0, 1.0)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A manifest of four clips of 96 x 64; but for the second around the instant, the other side of each is bright."""
    folder, rows = tmp_path_factory.mktemp("boxes"), []
    generator = np.random.default_rng(0)
    for number, box in enumerate(BOXES):
        left, top, right, bottom = (round(share * side) for share, side in zip(box, (96, 64, 96, 64), strict=True))
        frames = np.full((FPS * SECONDS, 64, 96, 3), 255, np.uint8)
        frames[:, top:bottom, left:right] = 0
        first = round((INSTANT - 0.5) * FPS)
        frames[first : first + FPS] = 255 - frames[first : first + FPS]
        path = folder / f"{number}.mp4"
        audio = 0.3 * generator.standard_normal((1, 16000 * SECONDS)).astype(np.float32)
        write_video(path, iter(frames), FPS, audio=audio, sample_rate=16000)
        events = (Event("bell", INSTANT, INSTANT, box),)
        rows.append(Row(path, 0.0, SECONDS, fps=FPS, width=96, height=64, hash=str(number), events=events))
    write_manifest(rows, folder / "boxes.parquet")
    return folder / "boxes.parquet"


@pytest.fixture(scope="module")
def items(clips) -> list:
    return annotated(read_manifest(clips))


class Sees(Localizer):
    """A released network that marks what is bright, as strongly as it hears something."""

    def heatmap(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        assert image.shape == (1, 3, 224, 224)
        assert spectrogram.shape[1:] == (1, 257, 200)
        loud = (spectrogram.mean((1, 2, 3)) - np.log(1e-7) / 12).clamp(0, 1)
        return F.avg_pool2d(image.mean(1), 32) * loud[:, None, None]


class SeesMotion:
    """One of our models that does so: windows of a second at 32 pixels."""

    config = SimpleNamespace(seconds=1.0, fps=10.0, size=32, sample_rate=16000)
    device = torch.device("cpu")

    video = SimpleNamespace(feature_info=SimpleNamespace(stride=(1, 8, 8)))

    def video_features(self, video: Tensor) -> Tensor:
        assert video.shape == (1, 3, 10, 32, 48)
        return F.avg_pool3d(video.mean(1, keepdim=True), (1, 8, 8))

    def audio_features(self, audio: Tensor) -> Tensor:
        assert audio.shape[1] == 16000
        loud = (audio.square().mean(1) > 1e-3).float()
        return loud[:, None, None].expand(-1, -1, 10)

    def project_video(self, features: Tensor) -> Tensor:
        return features

    def project_audio(self, features: Tensor) -> Tensor:
        return features


def named(metrics: list[MetricResult]) -> dict[str, MetricResult]:
    return {metric.name: metric for metric in metrics}


@pytest.mark.parametrize("network", [Sees(), SeesMotion()], ids=["released", "ours"])
def test_what_is_seen_at_the_instant_is_found_and_silence_marks_nothing(network, items):
    metrics = named(box_metrics(network, items, "x"))
    whole = metrics["adaptive cIoU@0.5, x"]
    assert whole.value == 1.0 and whole.n == 4
    assert metrics["cIoU AUC, x"].value > 0.85 * metrics["cIoU AUC, x"].oracle
    assert metrics["pointing, x"].value > 0.95 > metrics["pointing, x"].chance
    assert metrics["cIoU@0.5, x"].prior_name == "centre"
    assert metrics["cIoU@0.5, x, off centre"].n == 1  # the left half; the others hold the pixel in the middle
    assert metrics["pIA, silence, x"].value == 0
    assert metrics["pIA, silence, x"].n == 2
    assert metrics["pIA, noise, x"].value == pytest.approx(metrics["pIA, noise, x"].prior, abs=0.1)


def test_a_network_that_looks_the_wrong_way_is_told(items):
    class Wrong(Sees):
        def heatmap(self, image: Tensor, spectrogram: Tensor) -> Tensor:
            return 1 - super().heatmap(image, spectrogram)

    metrics = named(box_metrics(Wrong(), items))
    assert metrics["pointing"].value == 0
    assert metrics["cIoU@0.5"].value == 0


def test_a_single_clip_has_no_control(items):
    assert not any("pIA" in metric.name for metric in box_metrics(Sees(), items[:1]))


def test_objects_take_their_share_of_the_map(items):
    class Blind(Sees):
        def heatmap(self, image: Tensor, spectrogram: Tensor) -> Tensor:
            return torch.full((len(spectrogram), 7, 7), 0.5)

    class Bright(ObjectMap):
        def heatmap(self, image: Tensor) -> Tensor:
            return F.avg_pool2d(image.mean(1), 32)

    alone, guided = (named(box_metrics(Blind(), items, objects=objects)) for objects in (None, Bright()))
    assert alone["pointing"].value == pytest.approx(alone["pointing"].chance)
    assert guided["pointing"].value > 0.95
    assert named(box_metrics(SeesMotion(), items, objects=Bright()))["pointing"].value > 0.95


def test_boxes_of_an_instant_are_gathered_and_annotators_have_to_agree():
    boxes = [(0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 0.75, 1.0), (0.5, 0.0, 1.0, 1.0)]
    people = tuple(Event(str(k), 0.0, 0.0, box) for k, box in enumerate(boxes, 1))
    named_classes = tuple(Event("dog", 2.0 * k, 2.0 * k, box) for k, box in enumerate(boxes))
    plain = Event("bark", 0.0, 1.0)
    rows = [
        Row(Path("a"), 0.0, 10.0, events=people),
        Row(Path("b"), 0.0, 10.0, events=(*named_classes, plain)),
        Row(Path("c"), 0.0, 10.0, events=people, reason="damaged"),
        Row(Path("d"), 0.0, 10.0, events=(plain,)),
    ]
    found = annotated(rows)
    assert [(item.row.path.name, item.instant, len(item.boxes)) for item in found] == [
        ("a", 0.0, 3), ("b", 0.0, 1), ("b", 2.0, 1), ("b", 4.0, 1),
    ]  # fmt: skip
    assert np.unique(found[0].truth()).tolist() == [0.5, 1.0]  # two of three overlap in the middle
    assert found[1].truth().mean() == 0.5
    assert [item.start(3.0, 1.5) for item in found[1:]] == [0.0, 0.5, 2.5]
    assert found[3].start(9.0, 4.5) == 0.0 and found[3].start(8.0, 0.0) == 2.0


def test_the_command_measures_released_networks_beside_the_model(untrained, clips, tmp_path):
    names = {
        "image_projections.0.": "img_proj.", "audio_projections.0.": "aud_proj.", "image.": "imgnet.",
        "audio.": "audnet.",
    }  # fmt: skip
    tensors = {}
    for name, value in Localizer().state_dict().items():
        ours = next(part for part in names if name.startswith(part))
        tensors[names[ours] + name.removeprefix(ours)] = value
    torch.save({"model": tensors}, tmp_path / "ezvsl.pth")
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    words = ["evaluate", "--model", str(untrained), "--data", str(clips), "--task", "localization", "--with"]
    words += [str(tmp_path / "ezvsl.pth"), "--objects", str(tmp_path / "resnet18.pth")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for name in ("pointing ", "pointing, with objects", "pointing, EZ-VSL ", "pointing, EZ-VSL, with objects"):
        assert name in result.output


def test_released_networks_are_measured_on_the_models_device_in_its_precision(untrained, clips, tmp_path):
    two = tmp_path / "two.parquet"
    write_manifest(read_manifest(clips)[:2], two)

    def measured(model: AudioVisual) -> list[MetricResult]:
        torch.manual_seed(0)
        networks, objects = [Localizer()], ObjectMap()
        found = evaluate(model, [two], tasks=["localization"], released=networks, objects=objects).metrics
        assert networks[0].device == objects.device == model.device
        return found

    expected = measured(load(untrained))
    with pretend_device() as device:
        assert measured(load(untrained).to(device)) == expected
    coarse = measured(load(untrained, precision="bf16"))
    released = [one for one in zip(coarse, expected, strict=True) if "EZ-VSL" in one[0].name]
    assert any(one != other for one, other in released)
    for one, other in released:
        assert one.value == pytest.approx(other.value, abs=0.1)


def test_what_there_is_nothing_to_measure_on_is_refused(untrained, small_world, clips):
    model = load(untrained)
    for manifest, tasks in ((small_world, []), (clips, ["sync"])):
        with pytest.raises(DataError, match="take clips with boxes and the task 'localization'"):
            evaluate(model, [manifest], tasks=tasks, released=[Localizer()])
    with pytest.raises(DataError, match="no clip has boxes"):
        evaluate(model, [small_world], tasks=["localization"])


def test_boxes_take_no_room_for_a_search_of_the_offset(untrained, clips):
    model = load(untrained)
    model.config = model.config.model_copy(update=dict(seconds=7.0))  # of the clips' 8
    found = evaluate(model, [clips])
    assert {metric.task for metric in found.metrics} == {"localization"}
    with pytest.raises(DataError, match=r"no clip lasts the 8\.64 s"):
        evaluate(model, [clips], tasks=["sync"])
