"""Models in mteb: a task of our own through `mteb.evaluate`, without network."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avlearn.apply.embed import embed_file
from avlearn.errors import MissingExtraError, ModelError
from avlearn.evaluation.mteb_encoder import MtebEncoder
from avlearn.media import write_video, write_wav
from avlearn.models.folder import load

mteb = pytest.importorskip("mteb", reason="needs the extra mteb: pip install 'avlearn[mteb]'")


def test_without_mteb_the_extra_is_named(untrained, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'avlearn\[mteb\]'"):
        MtebEncoder(untrained, device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[tuple[Path, Path]]:
    """Video alone, bright or dark, and audio alone, high or low, of 16 clips."""
    folder, time = tmp_path_factory.mktemp("mteb"), np.arange(16000) / 16000
    rng, found = np.random.default_rng(0), []
    for k in range(16):
        frames = (40 + 120 * (k % 2) + rng.integers(0, 40, (25, 64, 64, 3))).astype(np.uint8)
        write_video(folder / f"{k}.mp4", frames, 25)
        tone = 0.2 * np.sin(2 * np.pi * (300 + 3000 * (k % 2) + 20 * k) * time)
        write_wav(folder / f"{k}.wav", tone[None].astype(np.float32), 16000)
        found.append((folder / f"{k}.mp4", folder / f"{k}.wav"))
    return found


def dataset(files: list[tuple[Path, Path]], as_bytes: bool = False):
    from datasets import Audio, Dataset, Video

    def cell(path: Path):
        return {"path": None, "bytes": path.read_bytes()} if as_bytes else str(path)

    columns = {"video": [cell(v) for v, _ in files], "audio": [cell(a) for _, a in files]}
    columns["label"] = [k % 2 for k in range(len(files))]
    return Dataset.from_dict(columns).cast_column("video", Video()).cast_column("audio", Audio())


def task(files: list[tuple[Path, Path]], columns: list[str]):
    """A classification of our own."""
    from datasets import DatasetDict
    from mteb.abstasks import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    class Ours(AbsTaskClassification):
        metadata = TaskMetadata(
            name="Ours", description="Bright or dark.", reference=None, dataset={"path": "ours", "revision": "1"},
            type="VideoClassification", category="v2c" if columns == ["video"] else "va2c", eval_splits=["test"],
            eval_langs=["eng-Latn"], main_score="accuracy", date=("2026-01-01", "2026-01-02"), domains=["Scene"],
            task_subtypes=[], license="cc0-1.0", annotations_creators="derived", dialect=[], modalities=columns,
            sample_creation="created", bibtex_citation="",
        )  # fmt: skip
        input_column_name = columns
        samples_per_label, n_experiments = 3, 2

        def load_data(self, **_):
            self.dataset = DatasetDict(train=dataset(files[:8]), test=dataset(files[8:]))
            self.data_loaded = True

    return Ours()


@pytest.mark.parametrize("columns", [["video"], ["video", "audio"]])
def test_a_task_is_evaluated(files, untrained, columns):
    encoder = MtebEncoder(untrained, device="cpu")
    result = mteb.evaluate(encoder, task(files, columns), cache=None, show_progress_bar=False)
    assert result.task_results[0].get_score() == 1.0
    assert encoder.mteb_model_meta.name == "avlearn/untrained"


def encoded(encoder: MtebEncoder, rows, prompt=None, kinds=("video", "audio")):
    """What an encoder gives of rows; queries are of the first kind, and documents of the second."""
    from mteb.types import PromptType

    sides = dict(zip((PromptType.query, PromptType.document), kinds, strict=True))
    metadata = SimpleNamespace(name="ours", get_modalities=lambda side: [sides[side]])
    loader = SimpleNamespace(dataset=rows)
    return encoder.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt)


def test_the_embedding_of_both_is_what_embed_gives_of_each(files, untrained):
    model = load(untrained)
    for as_bytes in (False, True):
        (found,) = encoded(MtebEncoder(model), dataset(files[:1], as_bytes))
        parts = [embed_file(path, model)[1 + k].mean(0) for k, path in enumerate(files[0])]
        np.testing.assert_allclose(found, np.concatenate(parts), rtol=1e-5, atol=1e-6)


def test_video_and_audio_are_compared_in_the_common_space(files, untrained):
    from mteb.types import PromptType

    encoder = MtebEncoder(load(untrained))
    rows = dataset(files[:3])
    seen = encoded(encoder, rows.select_columns(["video"]), PromptType.query)
    heard = encoded(encoder, rows.select_columns(["audio"]), PromptType.document)
    assert seen.shape == heard.shape == (3, encoder.model.config.dim)
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.similarity(seen, heard), seen @ heard.T, atol=1e-5)
    np.testing.assert_allclose(encoder.similarity_pairwise(seen, heard), (seen * heard).sum(1), atol=1e-5)
    alike = encoded(encoder, rows.select_columns(["video"]), PromptType.query, ("video", "video"))
    assert alike.shape == (3, 3 * encoder.model.video.num_features)


def test_what_the_model_does_not_take_is_told(files, untrained):
    from datasets import Dataset

    with pytest.raises(ModelError, match="ours has no video or audio"):
        encoded(MtebEncoder(untrained, device="cpu"), Dataset.from_dict({"text": ["a"]}))
