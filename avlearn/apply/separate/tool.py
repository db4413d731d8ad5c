"""All that `avlearn separate` does with a file, by whatever model separates: ours, or a released system."""

from pathlib import Path
from typing import Any

from avlearn.apply.separate.file import separate_file
from avlearn.apply.separate.result import SeparateResult
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.systems import SeparateSystem


def separate_tool(
    path: Source, model: AudioVisual | SeparateSystem, out_dir: str | Path, **options: Any
) -> SeparateResult:  # fmt: skip
    """`separate_file`, or `avlearn.apply.separate.by_system.separate_by_system`, which take the same options."""
    if isinstance(model, AudioVisual):
        return separate_file(path, model, out_dir, **options)
    from avlearn.apply.separate.by_system import separate_by_system

    return separate_by_system(path, model, out_dir, **options)
