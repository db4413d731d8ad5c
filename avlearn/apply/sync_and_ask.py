"""Synchronization of a file, and what released networks say of it beside."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avlearn.apply.sync import SyncResult, sync_file
from avlearn.media.source import Source, opened_once
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.released_sync import Crop, Network


@opened_once
def sync_and_ask(
    path: Source,
    model: AudioVisual,
    *,
    max_offset: float | None = None,
    tolerance: float = 0.04,
    released: Sequence[Path] = (),
    crop: "Crop | None" = None,
) -> SyncResult:
    """`sync_file`, with the answers of released networks.

    Args:
        path, model, max_offset, tolerance: as for `sync_file`.
        released: weight files of the networks to ask (see `avlearn.apply.released_sync.load_released`).
        crop: as for `avlearn.apply.released_sync.sync_with_released`.

    Raises:
        ModelError: a file holds no such network.
        MediaError: the media file cannot be read, or has no video or no audio.
    """
    networks = [load_network(file) for file in released]
    result = sync_file(path, model, max_offset=max_offset, tolerance=tolerance)
    if networks:
        from avlearn.apply.released_sync import sync_with_released

        result = replace(result, others=sync_with_released(path, networks, crop))
    return result


@cache
def load_network(path: Path) -> "Network":
    """A released network, read once in each process."""
    from avlearn.apply.released_sync import load_released

    return load_released(path)
