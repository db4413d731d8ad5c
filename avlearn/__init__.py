"""avlearn: learning from the fact that things which move make sound.

The public names are loaded when they are first used, so that ``import avlearn`` is quick.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "AvlearnError": "avlearn.errors",
    "Clip": "avlearn.media",
    "Embedder": "avlearn.apply.embedder",
    "MediaFile": "avlearn.media",
    "classify_file": "avlearn.apply.classify",
    "create_model": "avlearn.models",
    "embed_files": "avlearn.apply.embed",
    "estimate_flow": "avlearn.apply.flow.estimate",
    "evaluate": "avlearn.evaluation",
    "flow_file": "avlearn.apply.flow.video",
    "list_models": "avlearn.models",
    "load": "avlearn.models.folder",
    "load_recipe": "avlearn.tasks",
    "localize_file": "avlearn.apply.localize.file",
    "make_world": "avlearn.data.world",
    "pretrain": "avlearn.training.run",
    "probe": "avlearn.media",
    "read_clip": "avlearn.media",
    "separate_file": "avlearn.apply.separate.file",
    "stream": "avlearn.media",
    "sync_file": "avlearn.apply.sync.file",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'avlearn' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
