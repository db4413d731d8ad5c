"""What the tests of several tools share."""

from pathlib import Path

import pytest

from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load


@pytest.fixture(scope="module")
def model() -> AudioVisual:
    """The default model."""
    return load("default")


@pytest.fixture(scope="module")
def clips(small_world) -> list[Path]:
    """Clips of a world, in order."""
    return sorted((small_world / "clips").glob("*.mp4"))
