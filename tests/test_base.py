"""What a base decides is taken from it, what a recipe says otherwise is refused, and all that before any work."""

import re

import pytest

from avlearn.config import ModelConfig, Spectrogram
from avlearn.data.world import make as making
from avlearn.errors import AvlearnError, DataError, OutputError, RecipeError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import save
from avlearn.tasks import complete, load_recipe, read_recipe
from avlearn.training.checks import check_recipe, check_writable
from avlearn.training.run import pretrain


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A model unlike what recipes describe."""
    folder = tmp_path_factory.mktemp("base") / "base"
    config = ModelConfig(fps=12.5, size=48, sample_rate=8000, dim=32, spectrogram=Spectrogram(hop=0.02, n_fft=1024))
    save(AudioVisual(config).eval(), folder, "# base\n")
    return str(folder)


@pytest.mark.parametrize("name, key", [("separate_world", "separator.base"), ("sync_world", "model.base")])
def test_what_a_base_decides_is_taken_from_it(base, name, key):
    recipe = complete(load_recipe(name, [f"{key}={base}"]))
    assert (recipe.clip.fps, recipe.clip.size, recipe.clip.sample_rate) == (12.5, 48, 8000)
    assert (recipe.model.dim, recipe.model.spectrogram.hop, recipe.model.spectrogram.n_fft) == (32, 0.02, 1024)
    assert recipe.clip.seconds == load_recipe(name).clip.seconds
    assert complete(recipe) == recipe
    again = read_recipe(recipe.model_dump())
    assert complete(again) == recipe


@pytest.mark.parametrize(
    "word",
    ["clip.fps=25", "clip.size=96", "clip.sample_rate=16000", "model.video=r3d_18", "model.dim=64",
     "model.spectrogram.hop=0.01", "model.spectrogram={hop: 0.01}", "model.resample=true"],
)  # fmt: skip
def test_saying_otherwise_names_the_key(base, word):
    for name, key in (("separate_world", "separator.base"), ("sync_world", "model.base")):
        where = word.split("=")[0] + (r"\.hop" if "{" in word else "")
        with pytest.raises(RecipeError, match=rf"^{where}: the recipe has .*, and {key} {base} has .*: leave it out$"):
            complete(load_recipe(name, [f"{key}={base}", word]))
    complete(load_recipe("sync_world", [f"model.base={base}", "clip.fps=12.5", "model.spectrogram.hop=0.02"]))


def test_a_chosen_piece_says_what_is_in_it(base):
    with pytest.raises(RecipeError, match=r"^clip\.fps: the recipe has 25\.0"):
        complete(load_recipe("sync_world", [f"model.base={base}", "clip=laptop"]))


def test_a_recipe_file_says_what_is_in_it(base, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"defaults: [sync_world]\nname: mine\nmodel: {{base: {base}}}\nclip: {{size: 64}}\n")
    with pytest.raises(RecipeError, match=r"^clip\.size: the recipe has 64"):
        complete(load_recipe(file))
    file.write_text(f"defaults: [sync_world]\nname: mine\nmodel: {{base: {base}}}\n")
    assert complete(load_recipe(file)).clip.size == 48


def test_towers_come_from_one_place(base):
    for word in (f"model.base={base}", "model.video_weights=x.pth"):
        with pytest.raises(RecipeError, match=r"give one of the two"):
            complete(load_recipe("separate_world", [f"separator.base={base}", word]))


@pytest.fixture
def idle(monkeypatch):
    """Nothing may be rendered."""
    monkeypatch.setattr(making, "in_processes", None)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    "words, said",
    [
        (["model.video=no_such_network"], "no_such_network"),
        (["model.audio=no_such_network"], "no_such_network"),
        (["clip.fps=7"], r"a step lasts 4571\.43 samples; change clip\.fps"),
        (["model.base=nowhere"], "no model 'nowhere'"),
        (["model.video_weights=none.pth"], "none.pth"),
        (["data.world.preset=solitude"], "no world preset 'solitude'"),
        (["clip.seconds=20"], "clips of the world last 4 s, and the recipe wants"),
        (["data.train=nowhere"], "data.train: there is no file or folder nowhere"),
        (["data.train=.", "data.val=nowhere"], "data.val: there is no file or folder nowhere"),
        (["objective=offset", "objective.grid=0.7"], "objective.grid"),
        (["objective=clusters", "objective.clusters=2000"], "objective.clusters"),
        (["trainer.precision=16-mixed", "trainer.accelerator=cpu"], "trainer.precision"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_rendered(idle, tmp_path, dry_run, words, said):
    recipe = load_recipe("sync_world", [f"data.root={tmp_path / 'data'}", *words])
    with pytest.raises(AvlearnError, match=said):
        pretrain(recipe, tmp_path / "run", dry_run=dry_run)
    assert not list(tmp_path.rglob("*.mp4")) and not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (["sync_world"], 3),
        (["separate_world", "separator.base=default"], 4),
        (["separate_world", "separator.base=default", "data.world.preset=standard", "data.cache=false"], 32),
    ],
)
def test_a_dry_run_renders_no_more_than_a_batch(tmp_path, monkeypatch, capsys, words, most):
    rendered = []
    make = making._make_clip
    monkeypatch.setattr(
        making, "in_processes", lambda work, items, workers: ((k, work(v)) for k, v in enumerate(items))
    )
    monkeypatch.setattr(making, "_make_clip", lambda *args: rendered.append(args[-1]) or make(*args))
    small = [f"data.root={tmp_path / 'data'}", "data.world.train_clips=500", "data.world.val_clips=90"]
    recipe = load_recipe(words[0], [*words[1:], *small, "trainer.batch_size=2"])
    pretrain(recipe, tmp_path / "run", dry_run=True)
    said = capsys.readouterr().out
    assert len(rendered) == most and not list(tmp_path.iterdir())
    assert "clips       500 for training, 90 for validation" in said or ("clips       about " in said and most == 32)
    trained, in_all = (int(n.replace(",", "")) for n in re.search(r"([\d,]+) trained, ([\d,]+) in all", said).groups())
    assert 0 < trained <= in_all
    assert said.index("step        2 clips") < said.index("loss  ")  # told before the slow part


def test_clips_too_few_for_a_batch_are_told_with_what_to_do(tmp_path):
    small = [f"data.root={tmp_path}", "data.world.train_clips=2", "data.world.val_clips=1", "trainer.batch_size=4"]
    recipe = load_recipe("sync_world", [*small, "data.world.preset=solo", "trainer.accelerator=cpu"])
    with pytest.raises(DataError, match=r"^2 training clips do not fill a batch of 4: .* smaller trainer\.batch_size$"):
        pretrain(recipe, tmp_path / "run", dry_run=True)


def test_a_base_that_says_otherwise_is_found_before_anything_is_rendered(idle, tmp_path):
    words = ["separator.base=default", "clip.fps=12.5", "clip.size=96", "model.video=no_such_network"]
    recipe = load_recipe("separate_world", [f"data.root={tmp_path}", *words])
    with pytest.raises(RecipeError, match=r"^clip\.fps: the recipe has 12\.5, and separator\.base default has 25"):
        pretrain(recipe, tmp_path / "run", dry_run=True)


def test_a_disk_without_room_is_told_before_the_work(idle, tmp_path, monkeypatch):
    from avlearn.training import checks

    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="GB for decoded clips and the disk has"):
        check_recipe(load_recipe("sync_world", [f"data.root={tmp_path}"]))
    with pytest.raises(OutputError, match=r"10\.0 MB for checkpoints and the disk has"):
        check_writable(tmp_path / "run", 10**7)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(idle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        pretrain(load_recipe("sync_world", [f"data.root={tmp_path}"]), tmp_path / "file" / "run")


def test_a_folder_given_as_data_must_hold_something(tmp_path):
    with pytest.raises(DataError, match="holds no video"):
        pretrain(load_recipe("sync_world", [f"data.train={tmp_path}", "data.val=null"]), tmp_path / "run")
