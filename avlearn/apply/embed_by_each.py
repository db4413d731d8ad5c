"""Features of a file by several models: it is decoded once."""

from collections.abc import Sequence
from functools import partial

from avlearn.apply.embed import FileFeatures, WindowRows, window_rows
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.apply.run_many import Failure
from avlearn.apply.side_by_side import side_by_side
from avlearn.media.source import Source, opened_once


@opened_once
def features_by_each(
    path: Source, *models: FeatureModel, wanted: Sequence[int] | None = None
) -> list[FileFeatures | Failure]:
    """What `avlearn.apply.embed.file_features` gives by each model, of a file that is decoded once (`side_by_side`).

    Args:
        path: the file.
        models: what describes it.
        wanted: numbers of those that do; all by default.

    Returns:
        Of each of these, features, or why there are none.
    """
    chosen = models if wanted is None else [models[k] for k in wanted]
    rows, failed = [WindowRows() for _ in chosen], dict[int, Failure]()
    begin = [partial(window_rows, path, model, None) for model in chosen]
    for number, row in side_by_side(path, begin, [window_seconds(model) for model in chosen]):
        if isinstance(row, Failure):
            failed[number] = row
        else:
            rows[number].add(row)
    return [failed.get(number) or FileFeatures(str(path), *rows[number].arrays()) for number in range(len(chosen))]


def window_seconds(model: FeatureModel) -> float:
    """How long the windows of a model are."""
    return model.seconds if isinstance(model, EncoderAlone) else model.config.seconds
