"""Models as encoders of mteb, whose benchmark of video embeddings is MVEB; extra ``mteb``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.apply.embed import embed_file, pooled_audio, pooled_video
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel, load_embedder
from avlearn.apply.windows import stream_windows
from avlearn.errors import MissingExtraError, ModelError
from avlearn.evaluation.clip_features import Kind, features_of
from avlearn.media.open_file import OpenFile
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.terminal import progress_bars

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import Array, PromptType


class MtebEncoder:
    """An encoder as `mteb.evaluate` takes it (`mteb.models.EncoderProtocol`), of video, audio, or both.

    Each clip is one embedding: the mean over its windows of what `avlearn embed` gives, of video and audio side by side
    where a task has both columns. Where a task compares one with the other, it is the mean in the space that a model of
    video and audio has in common. Files are read by this package: neither torchcodec nor its FFmpeg is needed.

        import mteb
        from avlearn.evaluation.mteb_encoder import MtebEncoder
        mteb.evaluate(MtebEncoder("default"), mteb.get_benchmark("MVEB(video, v1)"))

    Args:
        model_name: a model or an encoder by name or path, as `avlearn.apply.encoder_alone.load_embedder` takes it, or
            one that was loaded.
        revision: for the name of the results.
        device: ``auto``, ``cpu``, ``cuda``, ...
        name: for the results; by default after the model's name.

    Raises:
        MissingExtraError: mteb is not installed.
        ModelError: there is no such model.
    """

    def __init__(
        self,
        model_name: str | Path | FeatureModel,
        revision: str | None = None,
        *,
        device: str | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        try:
            import mteb  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("this needs mteb: pip install 'avlearn[mteb]'") from error
        if isinstance(model_name, str | Path):
            self.model, called = load_embedder(model_name, device or "auto"), Path(model_name).name
        else:
            self.model, called = model_name, type(model_name).__name__
        self.name = name or f"avlearn/{called}"
        self.revision = revision

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What the model takes."""
        return features_of(self.model)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """What mteb writes beside results."""
        from mteb.models import ModelMeta

        network = self.model.encoder if isinstance(self.model, EncoderAlone) else self.model
        return ModelMeta(
            loader=None, name=self.name, revision=self.revision, release_date=None, languages=None,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()), memory_usage_mb=None,
            max_tokens=None, embed_dim=None, license=None, open_weights=None, public_training_code=None,
            public_training_data=None, framework=["PyTorch"], similarity_fn_name="cosine", use_instructions=False,
            training_datasets=None, modalities=list(self.kinds),
        )  # fmt: skip

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,
        **_: Any,
    ) -> "Array":
        """Embeddings float32 ``[N, D]`` of the rows of a data loader.

        Raises:
            ModelError: the task has nothing that the model takes, or compares video with audio, which lie in no common
                space.
            MediaError: a file cannot be read.
        """
        from datasets import Audio, Video

        rows = inputs.dataset
        kinds = [kind for kind in self.kinds if kind in rows.column_names]
        if not kinds:
            raise ModelError(f"{task_metadata.name} has no {' or '.join(self.kinds)}, which is what the model takes")
        for kind in kinds:  # as bytes or a path: they are decoded here
            rows = rows.cast_column(kind, (Video if kind == "video" else Audio)(decode=False))
        common = prompt_type is not None and _across(task_metadata)
        found = []
        with progress_bars() as bar, torch.inference_mode():
            for row in rows.select_columns(kinds):
                cells = {kind: _source(row[kind]) for kind in kinds if row[kind] is not None}
                found.append(self._common(cells) if common else self._features(cells))
                bar(task_metadata.name, len(found), len(rows), f"{len(found)}/{len(rows)}")
        return np.stack(found)

    def _features(self, cells: Mapping[Kind, Source]) -> np.ndarray:
        """``[D]``: video and audio side by side."""
        if not isinstance(self.model, AudioVisual):
            _, seen, heard = embed_file(next(iter(cells.values())), self.model)
            return np.concatenate([seen.mean(0), heard.mean(0)])
        pool = {"video": pooled_video, "audio": pooled_audio}
        return np.concatenate(
            [
                torch.cat([pool[kind](features) for features in self._windows(self.model, source, kind)]).mean(0).cpu()
                for kind, source in cells.items()
            ]
        )

    def _common(self, cells: Mapping[Kind, Source]) -> np.ndarray:
        """``[dim]`` in the common space, of unit length: the mean over windows, places and what there is."""
        if not isinstance(self.model, AudioVisual) or not self.model.config.common_space:
            raise ModelError("the task compares video with audio, which lie in no common space of this model")
        project = {"video": self.model.project_video, "audio": self.model.project_audio}
        means = []
        for kind, source in cells.items():
            windows = self._windows(self.model, source, kind)
            means.append(torch.cat([project[kind](features).flatten(2).mean(2) for features in windows]).mean(0))
        return F.normalize(torch.stack([F.normalize(mean, dim=0) for mean in means]).mean(0), dim=0).cpu().numpy()

    @staticmethod
    def _windows(model: AudioVisual, source: Source, kind: Kind) -> "list[Tensor]":
        return [features for _, features in stream_windows(source, model, model.config.seconds / 2, kind)]

    def similarity(self, embeddings1: "Array", embeddings2: "Array") -> "Array":
        """Cosines ``[N, M]`` of ``[N, D]`` and ``[M, D]``."""
        return _units(embeddings1) @ _units(embeddings2).T

    def similarity_pairwise(self, embeddings1: "Array", embeddings2: "Array") -> "Array":
        """Cosines ``[N]`` of ``[N, D]`` and ``[N, D]``."""
        return (_units(embeddings1) * _units(embeddings2)).sum(-1)


def _units(embeddings: Any) -> Tensor:
    return F.normalize(torch.as_tensor(embeddings).float(), dim=-1)


def _across(task_metadata: "TaskMetadata") -> bool:
    """Whether the queries of a task are of other kinds than what is looked for."""
    from mteb.types import PromptType

    query, document = (set(task_metadata.get_modalities(kind)) for kind in (PromptType.query, PromptType.document))
    return query != document


def _source(cell: Mapping[str, Any]) -> Source:
    """A file as `datasets` holds it: its bytes, or where it lies."""
    return OpenFile(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"])
