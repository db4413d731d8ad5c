"""The registered encoders as a table for people, programs and documents."""

import fnmatch
from dataclasses import asdict, dataclass
from typing import Any

from avlearn.errors import ModelError
from avlearn.models.registry import Spec, list_models, list_specs, match_encoders
from avlearn.models.weights.released import Released, released_weights
from avlearn.models.weights.systems import ReleasedSystem, released_systems
from avlearn.terminal import aligned

_HEADS = ("name", "kind", "params M", "GMACs", "at", "published", "top-1", "stride", "resize", "weights", "paper")
_SHOWN = ("name", "kind", "params M", "GMACs", "at", "top-1", "paper")


@dataclass(frozen=True)
class ModelList:
    """Encoders and their specs, by name."""

    specs: dict[str, Spec]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        models = {name: {**asdict(spec), "weights": _released(name)} for name, spec in self.specs.items()}
        return {"schema": "avlearn.models/2", "models": models}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                spec.kind,
                f"{spec.params / 1e6:.2f}",
                f"{spec.gmacs:.2f}",
                "x".join(map(str, spec.clip)),
                f"{spec.published_gmacs:g}" if spec.published_gmacs else "",
                f"{spec.top1:.1f}" if spec.top1 else "",
                f"{spec.stride}" if spec.stride else "",
                "x".join(map(str, spec.resize)) if isinstance(spec.resize, tuple) else f"{spec.resize or ''}",
                ", ".join(_released(name)),
                spec.paper,
            )
            for name, spec in self.specs.items()
        ]

    def text(self) -> str:
        """Human-readable text, in 100 letters a line; the rest is in the document, and in what `to_dict` gives."""
        shown = [_HEADS.index(heading) for heading in _SHOWN]
        return aligned(_SHOWN, [[row[k] for k in shown] for row in self._rows()], width=100)

    def markdown(self) -> str:
        """For a document: the table, and what a reader must know of single figures."""
        lines = ["| " + " | ".join(row) + " |" for row in (_HEADS, ("---",) * len(_HEADS), *self._rows())]
        notes = [f"- `{name}`: {spec.note}" for name, spec in self.specs.items() if spec.note]
        return "\n".join([*lines, "", *notes])


def model_list(pattern: str = "*") -> ModelList:
    """Encoders whose names match a shell pattern.

    Raises:
        ModelError: there are none.
    """
    names, specs = match_encoders(pattern), list_specs()
    return ModelList({name: specs[name] for name in names})


_WEIGHTS = "encoder", "name", "top-1", "data", "address"


@dataclass(frozen=True)
class WeightList:
    """Weights and whole systems that can be had by name."""

    weights: tuple[Released, ...]
    systems: tuple[ReleasedSystem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "schema": "avlearn.weights/1",
            "weights": [asdict(released) for released in self.weights],
            "systems": [{**asdict(system), "folder": str(system.folder)} for system in self.systems],
        }

    def text(self) -> str:
        """Human-readable text, in 100 letters a line; addresses, which are longer, are those of one encoder."""
        parts = [self._systems()] if self.systems else []
        if self.weights:
            rows = [(w.encoder, w.name, w.top1, w.data, w.address) for w in self.weights]
            if len({w.encoder for w in self.weights}) > 1:
                parts.append(aligned(_WEIGHTS[:-1], [row[:-1] for row in rows], width=100))
            else:
                parts.append(aligned(_WEIGHTS, rows))
        return "\n\n".join(parts)

    def _systems(self) -> str:
        rows = [(s.name, s.task, f"{s.megabytes:>4}", s.download, s.licence, s.use) for s in self.systems]
        return aligned(("--model", "command", "  MB", "download", "licence", "good for"), rows, width=100)


def weight_list(pattern: str = "*") -> WeightList:
    """Released weights of the encoders whose names match a shell pattern, and the systems whose names do.

    Raises:
        ModelError: there are none.
    """
    systems = tuple(system for name, system in released_systems().items() if fnmatch.fnmatch(name, pattern))
    names = list_models(pattern) if systems else match_encoders(pattern)
    found = tuple(released for released in released_weights() if released.encoder in names)
    if not found and not systems:
        raise ModelError(f"no weights are known by name for '{pattern}'")
    return WeightList(found, systems)


def _released(encoder: str) -> list[str]:
    return [released.name for released in released_weights() if released.encoder == encoder]
