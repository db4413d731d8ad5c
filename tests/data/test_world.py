"""The synthetic world: the same every time, true to its own ground truth, and no easier than it says."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from avlearn.data.manifest import read_manifest
from avlearn.data.world import CLASSES, PRESETS, Scene, WorldConfig, make_world, render_scene
from avlearn.data.world.objects import Thing
from avlearn.data.world.scene import _paint
from avlearn.errors import DataError, OutputError
from avlearn.media import read_clip

STRUCK = ("ball", "bell", "string", "mouth", "siren", "drum")  # silent, or fading, before each event
SMALL = {"size": 32, "duration": 2.0}


def solo(name: str, **changes) -> WorldConfig:
    return WorldConfig.preset("solo", classes=(name,), distractors=(0, 0), **changes)


def energy(audio: np.ndarray, start: float, stop: float, rate: int = 16000) -> float:
    return float(np.mean(audio[max(round(start * rate), 0) : round(stop * rate)] ** 2)) + 1e-10


def motion_in_box(scene: Scene) -> np.ndarray:
    """Change from frame k to k + 1 where the first source is, less what changes everywhere: ``[T - 1]``."""
    grey = scene.video.astype(np.float32).mean(-1)
    grey -= grey.mean((1, 2), keepdims=True)
    boxes = scene.sources[0].boxes
    x0, y0 = boxes[:, :2].min(0).astype(int)
    x1, y1 = boxes[:, 2:].max(0).astype(int)
    return np.abs(np.diff(grey[:, y0:y1, x0:x1], axis=0)).mean((1, 2))


@pytest.mark.parametrize("preset", PRESETS)
def test_same_seed_gives_same_bytes(preset):
    config = WorldConfig.preset(preset)
    first, again, other = render_scene(config, 3, 5), render_scene(config, 3, 5), render_scene(config, 4, 5)
    assert first.video.tobytes() == again.video.tobytes()
    assert first.stems.tobytes() == again.stems.tobytes()
    assert [s.events for s in first.sources] == [s.events for s in again.sources]
    assert first.video.tobytes() != other.video.tobytes()
    assert first.audio.tobytes() != render_scene(config, 3, 6).audio.tobytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_stems_sum_to_the_audio(preset):
    config = WorldConfig.preset(preset, size=32)
    for index in range(8):
        scene = render_scene(config, 1, index)
        assert scene.video.shape == (config.duration * 25, 32, 32, 3) and scene.video.dtype == np.uint8
        assert scene.audio.shape == (config.duration * 16000,) and scene.audio.dtype == np.float32
        assert len(scene.stems) == len(scene.sources) + 1
        assert np.array_equal(scene.stems.sum(0), scene.audio)
        assert np.abs(scene.audio).max() < 1 and np.abs(scene.stems).max() <= 1
        for source, stem in zip(scene.sources, scene.stems, strict=False):
            assert (np.abs(stem).max() > 0.01) == source.sounding
            assert (source.boxes is None) == (not source.onscreen)


def test_boxes_are_tight():
    half, centre = 12.0, np.array([0.5, 0.4])
    camera = np.array([[0.0, 0.0], [3.0, -2.0], [-4.0, 5.0]])

    def disc(u, v):
        return [(np.sqrt(u**2 + (2 * v) ** 2) - 1, np.full(3, 255, np.float32))]

    video = np.zeros((3, 80, 80, 3), np.float32)
    boxes = _paint(video, Thing(np.empty(0), disc, np.empty(0)), centre, 2 * half / 80, camera)
    for frame, box, (dx, dy) in zip(video, boxes, camera, strict=True):
        x, y = 40 + dx, 32 + dy
        assert np.abs(box - [x - half, y - half / 2, x + half, y + half / 2]).max() <= 1
        rows, columns = np.nonzero(frame[..., 0] > 127.5)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_things_keep_apart_and_have_the_size_asked_for():
    widths = []
    for index in range(30):
        scene = render_scene(WorldConfig.preset("muted"), 2, index)
        first, second = (s.boxes for s in scene.sources)
        overlap = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
        shared = np.clip(overlap, 0, None).prod(1)
        smaller = np.minimum((first[:, 2:] - first[:, :2]).prod(1), (second[:, 2:] - second[:, :2]).prod(1))
        assert (shared <= 0.15 * smaller).all()
        widths += [(s.boxes[:, 2:] - s.boxes[:, :2]).max() / 96 for s in scene.sources]
    assert max(widths) < 0.44 + 0.05 and 0.25 < np.median(widths) < 0.42


def test_sounding_thing_has_no_place_of_its_own():
    """Neither its order among the sources nor its place in the frame tells which of the two sounds."""
    first, nearer = 0, 0
    for index in range(120):
        sources = render_scene(WorldConfig.preset("twins", **SMALL), 8, index).sources
        off = [float(np.abs(s.boxes.reshape(-1, 2, 2).mean((0, 1)) - 16).max()) for s in sources]
        sounding = [s.sounding for s in sources].index(True)
        first += sounding == 0
        nearer += off[sounding] < off[1 - sounding]
    assert 40 <= first <= 80 and 40 <= nearer <= 80


@pytest.mark.parametrize("name", CLASSES)
def test_events_are_irregular(name):
    gaps = np.concatenate(
        [np.diff(render_scene(solo(name, size=32), 5, k).sources[0].events) for k in range(6)]
    )  # fmt: skip
    assert len(gaps) > 12
    assert gaps.std() / gaps.mean() > 0.15


@pytest.mark.parametrize("name", STRUCK)
def test_audio_sets_in_within_20_ms_of_its_event(name):
    rises = []
    for index in range(6):
        scene = render_scene(solo(name, size=32), 9, index)
        for event in scene.sources[0].events:
            if 0.05 < event < 3.9:
                before = energy(scene.stems[0], event - 0.02, event)
                rises.append(energy(scene.stems[0], event, event + 0.02) / before)
                assert energy(scene.stems[0], event, event + 0.02) > 2 * energy(scene.stems[-1], 0, 4)
    assert np.percentile(rises, 5) > 10**0.4


@pytest.mark.parametrize("name", ["fan", "shaker"])
def test_breath_is_loudest_at_its_events(name):
    ratios = []
    for index in range(8):
        scene = render_scene(solo(name, size=32), 9, index)
        events = np.array(scene.sources[0].events)
        events = events[(events > 0.2) & (events < 3.8)]
        for one, two in pairwise(events):
            if two - one < 0.5:
                middle = (one + two) / 2
                trough = energy(scene.stems[0], middle - 0.01, middle + 0.01)
                ratios.append(energy(scene.stems[0], one - 0.01, one + 0.01) / trough)
    assert np.median(ratios) > 4


@pytest.mark.parametrize("name", [n for n in CLASSES if n != "fan"])
def test_it_moves_when_it_sounds(name):
    ratios, displaced = [], []
    for index in range(6):
        scene = render_scene(solo(name, size=64), 9, index)
        change = motion_in_box(scene)
        frames = (np.array(scene.sources[0].events) * 25).astype(int)
        near = np.zeros(99, bool)
        for k in frames:
            near[max(k - 1, 0) : k + 2] = True
        ratios.append(change[near].mean() / change[~near].mean())
        wrong = np.roll(near, 33)
        displaced.append(change[wrong].mean() / change[~wrong].mean())
    assert min(ratios) > 1.1
    assert np.mean(displaced) < 1 + 0.5 * (np.mean(ratios) - 1)


def test_fan_brightens_as_it_is_heard():
    agreement = []
    for index in range(8):
        scene = render_scene(solo("fan", size=64), 9, index)
        x0, y0, x1, y1 = scene.sources[0].boxes[50].astype(int)
        light = scene.video[:, y0:y1, x0:x1].mean((1, 2, 3)) / scene.video.mean((1, 2, 3))
        loud = np.sqrt((scene.stems[0].reshape(100, 640) ** 2).mean(1))
        smooth = np.ones(9) / 9
        agreement.append(np.corrcoef(np.convolve(light, smooth, "valid"), np.convolve(loud, smooth, "valid"))[0, 1])
    assert np.median(agreement) > 0.7


def test_audio_spectra_of_the_classes_overlap():
    hz = np.fft.rfftfreq(64000, 1 / 16000)
    centroids = {}
    for name in CLASSES:
        values = []
        for index in range(16):
            power = np.abs(np.fft.rfft(render_scene(solo(name, size=32), 6, index).stems[0])) ** 2
            values.append((power * hz).sum() / power.sum())
        centroids[name] = np.log(values)
    for name, own in centroids.items():
        low, high = np.percentile(own, [10, 90])
        met = [o for o, v in centroids.items() if o != name and np.mean((v > low) & (v < high)) > 0.15]
        assert len(met) >= 2, (name, met)
    nearest = [
        min(centroids, key=lambda other, v=v: abs(np.median(centroids[other]) - v)) == name
        for name, own in centroids.items()
        for v in own
    ]
    assert np.mean(nearest) < 0.5


def test_presets_show_what_they_say():
    def cast(preset, **changes):
        config = WorldConfig.preset(preset, **SMALL, **changes)
        return [render_scene(config, 1, k).sources for k in range(40)]

    for sources in cast("solo"):
        assert [(s.onscreen, s.sounding) for s in sources] == [(True, True)]
    for one, two in cast("muted"):
        assert one.name != two.name and sorted([one.sounding, two.sounding]) == [False, True]
    for one, two in cast("twins"):
        assert one.name == two.name and sorted([one.sounding, two.sounding]) == [False, True]
    for one, two in cast("duets"):
        assert one.name != two.name and all(s.onscreen and s.sounding for s in (one, two))
    hard = cast("hard")
    assert all(sum(s.onscreen for s in sources) == 3 for sources in hard)
    assert all(s.sounding for sources in hard for s in sources)
    pairs = [len({s.name for s in sources if s.onscreen}) < 3 for sources in hard]
    assert 0.25 < np.mean(pairs) < 0.75
    standard = cast("standard")
    assert 0.4 < np.mean([sum(s.onscreen and s.sounding for s in ss) == 1 for ss in standard]) < 0.8
    assert 0.2 < np.mean([any(not s.sounding for s in ss) for ss in standard]) < 0.6
    assert 0.1 < np.mean([any(not s.onscreen for s in ss) for ss in standard]) < 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ("bal",)}, "nearest is 'ball'"),
        ({"classes": ()}, "classes"),
        ({"sources": (2, 1)}, "sources"),
        ({"sources": 2}, "sources"),
        ({"sources": (1.5, 2.0)}, "sources"),
        ({"muted_share": float("nan")}, "muted_share"),
        ({"distractors": (0, 500)}, "distractors"),
        ({"object_size": (0.5,)}, "object_size"),
        ({"size": 97}, "size"),
        ({"fps": "fast"}, "fps"),
        ({"twin": "loud"}, "twin"),
        ({"look": "dawn"}, "look"),
        ({"moment": 0.1}, "moment"),
        ({"moment": 1.5}, "moment"),
    ],
)
def test_impossible_worlds_are_refused(changes, words):
    with pytest.raises(DataError, match=words):
        replace(WorldConfig(), **changes)


def test_unknown_presets_and_options_are_refused():
    with pytest.raises(DataError, match="nearest is 'hard'"):
        WorldConfig.preset("hrad")
    with pytest.raises(DataError, match="nearest is 'duration'"):
        WorldConfig.preset("solo", durations=3.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "w"
    config = WorldConfig(size=64)
    make_world(out, 5, 7, config, workers=2, split="val")
    return out, config


def test_files_hold_the_scene_in_step(world):
    out, config = world
    for index, row in enumerate(read_manifest(out / "manifest.parquet")):
        scene, clip = render_scene(config, 7, index), read_clip(row.path)
        assert clip.video.shape == scene.video.shape and clip.audio.shape == (1, 64000)
        both = np.fft.irfft(np.fft.rfft(clip.audio[0], 2**17) * np.conj(np.fft.rfft(scene.audio, 2**17)))
        assert both.argmax() == 0  # not one sample early or late
        truth, read = scene.video.astype(np.float32), clip.video.astype(np.float32)
        errors = [np.mean((np.roll(read, k, 0)[2:-2] - truth[2:-2]) ** 2) for k in (-1, 0, 1)]
        assert errors[1] == min(errors) and errors[1] < 255**2 * 10**-2.4


def test_truth_on_disk_is_the_scene(world):
    out, config = world
    for index, row in enumerate(read_manifest(out)):
        scene = render_scene(config, 7, index)
        truth = json.loads(row.truth.read_text())
        stems = np.load(out / "stems" / f"{index:06d}.npz")["stems"]
        assert stems.dtype == np.int16
        assert np.array_equal((stems.astype(np.float32) / np.float32(32767)).sum(0), scene.audio)
        for written, source in zip(truth["sources"], scene.sources, strict=True):
            assert written["name"] == source.name
            assert (written["onscreen"], written["sounding"]) == (source.onscreen, source.sounding)
            assert np.allclose(written["events"], source.events, atol=1e-6)
            if source.onscreen:
                assert np.array_equal(np.array(written["boxes"], np.float32), source.boxes)
        heard = [s for s in scene.sources if s.onscreen and s.sounding]
        assert row.labels == tuple(s.name for s in heard) and row.split == "val"
        assert f"sources:{len(heard)}" in row.flags
        assert ("offscreen" in row.flags) == any(not s.onscreen for s in scene.sources)
        assert ("muted" in row.flags) == any(not s.sounding for s in scene.sources)


def test_a_world_by_the_clock_has_fewer_clips_but_not_too_few(tmp_path):
    config = WorldConfig.preset("solo", **SMALL)
    made = make_world(tmp_path / "w", 12, 7, config, workers=1, seconds=0.0, least=3)
    rows = read_manifest(made)
    assert [row.path.name for row in rows] == [f"{k:06d}.mp4" for k in range(len(rows))] and 3 <= len(rows) < 12
    assert len(read_manifest(make_world(tmp_path / "w", 5, 7, config, workers=1))) == 5


def test_an_unfinished_world_is_finished(world):
    out, config = world

    def contents():
        # What x264 writes is not the same each time; that the video is the scene's is tested above.
        return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".mp4"}

    before = contents()
    kept = (out / "clips" / "000000.mp4").stat().st_mtime_ns
    (out / "truth" / "000001.json").unlink()
    (out / "clips" / "000003.mp4").unlink()
    (out / "stems" / "000004.npz").unlink()
    seen = []
    make_world(out, 5, 7, config, workers=1, split="val", progress=lambda done, total: seen.append((done, total)))
    assert contents() == before
    assert (out / "clips" / "000003.mp4").exists()
    assert (out / "clips" / "000000.mp4").stat().st_mtime_ns == kept
    assert seen == [(k, 5) for k in range(2, 6)]
    assert not [p for p in out.rglob("*") if ".part" in p.name]


def test_another_world_does_not_go_into_the_same_folder(world):
    out, config = world
    with pytest.raises(OutputError, match="choose a new folder"):
        make_world(out, 5, 8, config, workers=1)
    with pytest.raises(OutputError, match="choose a new folder"):
        make_world(out, 5, 7, replace(config, fps=30.0), workers=1)


def test_a_world_of_an_older_version_is_gone_on_with(world, tmp_path):
    out, config = world
    copied = shutil.copytree(out, tmp_path / "older")
    note = json.loads((copied / "world.json").read_text())
    (copied / "world.json").write_text(json.dumps({key: note[key] for key in note if key not in ("look", "moment")}))
    make_world(copied, 5, 7, config, workers=1)
    with pytest.raises(OutputError, match="choose a new folder"):
        make_world(copied, 5, 7, replace(config, look="night"), workers=1)
    (copied / "world.json").write_text("no note")
    with pytest.raises(OutputError, match="choose a new folder"):
        make_world(copied, 5, 7, config, workers=1)


@pytest.mark.parametrize("changes", [{"clips": 0}, {"workers": 0}, {"seed": -1}])
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path, changes):
    with pytest.raises(DataError, match=next(iter(changes))):
        make_world(tmp_path / "w", **{"clips": 1, "seed": 0, "workers": 1, **changes})
    assert not (tmp_path / "w").exists()


def test_a_file_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "w").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        make_world(tmp_path / "w", 1, workers=1)


def test_one_frame_of_the_world_of_motions_says_nothing_and_several_do():
    """Where the thing is in a frame, and how it moves from there, by nearest neighbours of other scenes."""
    config = WorldConfig.preset("motions", size=32, duration=1.0)
    scenes = [render_scene(config, 1, k) for k in range(240)]
    names = np.array([scene.sources[0].name for scene in scenes])
    boxes = np.stack([scene.sources[0].boxes for scene in scenes])
    places = (boxes[:, :, :2] + boxes[:, :, 2:]) / 2
    moved = np.diff(places, axis=1)
    turning = moved[:, :-1, 0] * moved[:, 1:, 1] - moved[:, :-1, 1] * moved[:, 1:, 0]
    together = np.concatenate([np.abs(moved).mean(1), 3 * turning.mean(1, keepdims=True)], 1)
    for features, low, high in ((places[:, 12], 0.15, 0.36), (together, 0.9, 1.0)):
        apart = np.linalg.norm(features[:, None] - features[None], axis=2) + 1e9 * np.eye(len(features))
        right = (names[np.argsort(apart, 1)[:, 0]] == names).mean()
        assert low <= right <= high, right


def test_at_night_it_looks_otherwise_and_sounds_the_same():
    day, night = (render_scene(WorldConfig.preset(name, **SMALL), 1, 0) for name in ("solo", "night"))
    assert np.array_equal(day.audio, night.audio)
    assert night.video.mean() < 0.5 * day.video.mean()
    assert night.video[..., 2].mean() > 1.2 * night.video[..., 0].mean()


def test_a_moment_lies_within_other_footage():
    config = WorldConfig.preset("moments", size=32, duration=10.0)
    for index in range(4):
        scene = render_scene(config, 1, index)
        (source,) = scene.sources
        seen = np.flatnonzero(~np.isnan(source.boxes).any(1))
        assert len(seen) == 50 == seen[-1] - seen[0] + 1
        first, last = seen[0] / 25, (seen[-1] + 1) / 25
        assert all(first <= event <= last for event in source.events)
        own = np.flatnonzero(scene.stems[0])
        assert first * 16000 <= own[0] and own[-1] < last * 16000 and source.name in CLASSES
        outside = np.delete(scene.stems[1], slice(round(first * 16000), round(last * 16000)))
        assert outside.std() > 0
