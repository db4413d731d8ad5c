from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared" / "media"


def _folder(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs what others have published, which is not ours to hand on, in {SHARED / name}")
    return SHARED / name


@pytest.fixture(scope="session")
def published_annotations() -> Path:
    """The folder of annotation files as published; skips where it is absent."""
    return _folder("annotations")


@pytest.fixture(scope="session")
def published_corpora() -> Path:
    """The folder of whole corpora as published; skips where it is absent."""
    return _folder("corpora")
