"""Recipes: composition, overrides, and one-line errors that name the nearest valid key."""

import pytest
from pydantic import TypeAdapter

from avlearn.config import Spectrogram
from avlearn.errors import RecipeError
from avlearn.objectives import OBJECTIVES
from avlearn.recipe import list_recipes
from avlearn.recipe.schema import Recipe
from avlearn.tasks import load_recipe, read_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_composes_and_reads_back(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    written = tmp_path / "again.yaml"
    written.write_text(recipe.to_yaml())
    assert load_recipe(written) == recipe


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_a_piece(name):
    recipe = load_recipe("sync_world", [f"objective={name}"])
    assert recipe.objective.name == name


def test_another_objective_has_no_options_of_the_one_before(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [sync_world]\nname: mine\nobjective: {name: infonce, temperature: 0.3}\n")
    mine, named = load_recipe(path), load_recipe("sync_world", ["objective.name=infonce", "objective.temperature=0.3"])
    piece = load_recipe("sync_world", ["objective=infonce", "objective.temperature=0.3"])
    assert mine.objective == named.objective == piece.objective
    path.write_text("defaults: [sync_world]\nname: mine\nobjective: {temperature: 0.3}\n")  # of the same one
    before, same = load_recipe("sync_world").objective, load_recipe(path).objective
    assert same.name == before.name and same.temperature == 0.3 and same.shift == before.shift


def test_a_wrong_option_of_an_objective_is_named():
    with pytest.raises(
        RecipeError, match=r"no such key 'objective\.temprature'; the nearest is 'objective\.temperature'"
    ):
        load_recipe("sync_world", ["objective=gdt", "objective.temprature=1"])


def test_a_recipe_anywhere_finds_its_pieces(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [{model: r2plus1d}, {data: folder}, _self_]\nname: mine\ntrainer: {max_steps: 3}\n")
    recipe = load_recipe(path, ["data.train=/clips"])
    assert recipe.model.video == "r2plus1d_18"
    assert recipe.data.train == "/clips"
    assert recipe.trainer.max_steps == 3


def test_overrides_set_values_and_choose_pieces():
    words = ["model.video=slowfast_tiny", "trainer.max_epochs=5", "clip=kinetics"]
    recipe = load_recipe("sync_world", words)
    assert (recipe.model.video, recipe.trainer.max_epochs, recipe.clip.size) == ("slowfast_tiny", 5, 112)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective=offst"], "no piece of 'objective' is called 'offst'; the nearest is 'offset'"),
        (["modle.video=x"], "no such key 'modle'; the nearest is 'model'"),
        (
            ["task=separate"],
            "the section 'objective' is of the task 'synchronize', and the recipe's task is 'separate'",
        ),
        (["separator=small"], "the section 'separator' is of the task 'separate', and the recipe's task is 'synch"),
        (["model.vidoe=x"], "no such key 'model.vidoe'; the nearest is 'model.video'"),
        (["trainer.max_steps=many"], "trainer.max_steps"),
        (["optimizer.lr=-1"], "optimizer.lr"),
        (["trainer.precision=64"], "trainer.precision"),
        (["trainer.max_steps=null"], "trainer.max_steps"),
        (["model=unheard_of"], "no piece of 'model' is called 'unheard_of'"),
        (["objective.name=dens"], "objective.name: no objective is called 'dens'; the nearest is 'dense'"),
        (["objective.shift.frist=1"], "no such key 'objective.shift.frist'; the nearest is 'objective.shift.first'"),
        (["objective.temperature=-1"], "objective.temperature: input should be greater than 0 (given: -1)"),
        (["objective=slavc", "model.dim=5"], "model.dim: 5 does not split into the two halves"),
        (["clip.context=0"], "clip.context: the objective 'dense' needs more audio than video"),
        (["optimizer.name=adam"], "optimizer.name"),
        (["model.base=default", "model.video_weights=x"], "model.video_weights: the towers of model.base have weights"),
        (["model.video_mean=[0.5,0.5,0.5]"], "model.video_mean, model.video_std: give both"),
        (["nonsense"], "key=value"),
        (["+=x"], "'+=x' is not an override"),
        (["+seed=1"], "is not an override"),
        (["=1"], "is not an override"),
        (["a..b=1"], "is not an override"),
        ([".".join("a" * 1000) + "=1"], "is not an override"),
        (["seed.a=1"], "seed.a: seed is a value"),
        (["model.video=${oc.env:HOME}"], "model.video: '${oc.env:HOME}': interpolation is not supported"),
        (["model.video_options={a"], "model.video_options, line 1: not valid YAML"),
        (["model.video_options=" + "[" * 9000], "model.video_options, line 1: nested more than 16 deep"),
        (["data.train=" + "x" * 70000], "data.train: 'xxx"),
        (["optimizer.lr=.inf"], "optimizer.lr: input should be a finite number"),
        (["optimizer.lr=inf"], "optimizer.lr: input should be a finite number"),
        (["augment.gain=.nan"], "augment.gain: input should be a finite number"),
        (["model.video_options={a:.nan}"], "model.video_options.a"),
        (["trainer.batch_size=1000000000"], "trainer.batch_size"),
        (["trainer.max_steps=" + "9" * 6000], "trainer.max_steps"),
        (["clip.fps=1e-9"], "clip.fps"),
        (["clip.size=100000"], "clip.size"),
        (["seed=-1"], "seed"),
        (['data.train="a\\0b"'], "data.train"),
        (["x" * 60000 + "=1"], "no such key 'xxx"),
        (["model.video_options={5:1}"], "the key 5 is no word"),
        (["name=../../../tmp/evil"], "name: '../../../tmp/evil' is no plain folder name"),
        (["name=.."], "is no plain folder name"),
        (["name=.hidden"], "is no plain folder name"),
        (["name="], "name"),
        (["name=-o"], "is no plain folder name"),
        (['name="a\\nb"'], "is no plain folder name"),
        (["name=" + "x" * 101], "is no plain folder name"),
        (["model=" + "x" * 9000], "no piece of 'model' is called 'xxx"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named_in_one_line(words, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe("sync_world", words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_unknown_recipes_and_broken_files(tmp_path):
    with pytest.raises(RecipeError, match="nearest is 'sync_world'; avlearn recipe list names all"):
        load_recipe("sync_wrld")
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: x\n  task: [\n")
    with pytest.raises(RecipeError, match="line 2"):
        load_recipe(tmp_path / "bad.yaml")


def test_a_piece_replaces_its_section_and_values_win_over_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [sync_world, {model: r2plus1d}]\nname: mine\nmodel: {dim: 32}\nclip: {fps: 5}\n")
    recipe = load_recipe(path)
    assert (recipe.model.video, recipe.model.dim, recipe.model.spectrogram.mels) == ("r2plus1d_18", 32, 80)
    assert (recipe.clip.fps, recipe.clip.size) == (5, 64)
    changed = load_recipe(path, ["model.dim=8", "model=dsconv", "model.video_options={}"])
    assert (changed.model.video, changed.model.dim, changed.model.video_options) == ("dsconv_tiny", 8, {})


def test_overrides_are_words_unless_they_are_brackets_or_quotes():
    words = ["data.train=/a b/#c: [d]*&!", "model.video_options={a:1,b: [2,3]}", "data.val='5'", "data.exclude=[]"]
    recipe = load_recipe("sync_world", words)
    assert (recipe.data.train, recipe.data.val, recipe.data.exclude) == ("/a b/#c: [d]*&!", "5", ())
    assert recipe.model.video_options == {"a": 1, "b": [2, 3]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults: 5\n", "r.yaml: defaults: 5 is no list"),
        ("defaults: [{model: {a: b}}]\n", "r.yaml: defaults: {'model': {'a': 'b'}} is no entry"),
        ("defaults: [{model: dsconv, clip: laptop}]\n", "is no entry"),
        ("defaults: [[]]\n", "is no entry"),
        ("defaults: [r]\n", "r.yaml: defaults: the recipe builds on itself, by way of r.yaml"),
        ("defaults: [other]\n", "r.yaml: defaults: the recipe builds on itself, by way of other.yaml"),
        ("defaults: [../r]\n", "is no entry"),
        ("defaults: [{model: ../../etc}]\n", "is no entry"),
        ("defaults: [sync_wrld]\n", "no recipe is called 'sync_wrld'; the nearest is 'sync_world'"),
        ("defaults: [{modle: dsconv}]\n", "there are no pieces of 'modle', only of augment"),
        ("defaults: [{hydra/launcher: x}]\n", "is no entry"),
        (f"defaults: [{'sync_world, ' * 99}]\n", "builds on more than 64 files"),
        ("hydra: {searchpath: [pkg://antigravity]}\nname: x\n", "no such key 'hydra'"),
        ("model: 5\nname: x\n", "model"),
        ("name: [x]\n", "name"),
        ("trainer: {max_steps: 1}\n", "name: field required"),
    ],
)
def test_a_wrong_recipe_file_is_one_line(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("defaults: [r]\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_value_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    path = tmp_path / "r.yaml"
    for text in ("${oc.env:SECRET}", "${oc.decode:${oc.env:SECRET}}", "$SECRET"):
        path.write_text(f"defaults: [sync_world]\nname: x\ndata: {{root: '{text}'}}\n")
        try:
            assert "hunter2" not in load_recipe(path).to_yaml()
        except RecipeError as error:
            assert "line 3" in str(error)
            assert "interpolation" in str(error)


def test_names_that_no_file_can_have():
    for name in ("x" * 9000 + ".yaml", "a\0.yaml", "x" * 9000, ".yaml"):
        with pytest.raises(RecipeError):
            load_recipe(name)


def _bounds(schema: dict, path: str = ""):
    """Each number of a JSON schema that lacks a bound."""
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if isinstance(value, dict | list):
            yield from _bounds(value, f"{path}.{key}")
    if isinstance(schema, dict) and schema.get("type") in ("number", "integer"):
        low, high = {"minimum", "exclusiveMinimum"} & set(schema), {"maximum", "exclusiveMaximum"} & set(schema)
        if not (low and high):
            yield path


def test_every_number_of_a_recipe_has_bounds():
    assert list(_bounds(Recipe.model_json_schema())) == []
    for kind in OBJECTIVES.values():
        schema = TypeAdapter(kind.Options).json_schema()
        assert {"name", "shift"} <= schema["properties"].keys()
        assert list(_bounds(schema)) == []


def test_another_encoder_leaves_what_was_said_of_the_one_before(tmp_path):
    """Its options, weights and front end; not those that are said of the new one, and nothing of the other tower."""
    words = [
        "model.video=timesformer_b",
        "model.audio=vggish",
        "model.audio_options.eps=1",
        "model.spectrogram.hop=0.02",
    ]
    model = load_recipe("synchformer_vggsound_segments", words).model
    assert (model.video_options, model.audio_options) == ({}, {"eps": 1})
    assert model.spectrogram.model_dump(exclude_none=True) == {"hop": 0.02}
    same = load_recipe("synchformer_vggsound_segments", ["model.video=motionformer_b"]).model
    assert same.video_options == {"attention": "divided"}
    assert same.audio_options == {"eps": 1e-12}
    above = tmp_path / "mine.yaml"
    above.write_text("defaults: [owens_efros_audioset]\nname: mine\nmodel: {video: c3d}\n")
    model = load_recipe(above).model
    assert (model.video, model.video_options, model.audio_options) == ("c3d", {}, {"in_chans": 1})


def test_a_run_of_before_says_null_of_what_its_encoder_decides():
    """Recipes of finished runs had every key of the spectrogram, and no colours as null."""
    recipe = load_recipe("sync_kinetics", ["data.train=x"])
    values = recipe.model_dump(mode="json")
    assert values["model"]["spectrogram"]["kind"] is None and values["model"]["video_mean"] is None
    keys = ("base", "video", "audio", "video_options", "audio_options", "video_weights", "audio_weights", "video_mean",
            "video_std", "dim", "spectrogram", "resample", "segment")  # fmt: skip
    assert set(values["model"]) == set(keys)
    assert set(values["clip"]) == {"fps", "size", "sample_rate", "seconds", "context"}
    assert set(values["model"]["spectrogram"]) == set(Spectrogram.model_fields)
    again = read_recipe(values)
    assert (again.clip, again.model.spectrogram, again.model.dim) == (recipe.clip, recipe.model.spectrogram, 256)


@pytest.mark.parametrize(("key", "value"), [("hop", 2), ("mels", 0), ("bins", 1), ("n_fft", "512a")])
def test_bounds_of_a_spectrogram_are_those_of_the_model(key, value):
    with pytest.raises(RecipeError, match=rf"model\.spectrogram\.{key}"):
        load_recipe("sync_world", [f"model.spectrogram.{key}={value}"])
