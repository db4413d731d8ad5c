"""Options of the synthetic world."""

from dataclasses import dataclass, fields, replace
from typing import Any

from avlearn.data.world.objects import CLASSES, MOTIONS, THINGS
from avlearn.errors import DataError
from avlearn.names import hint


def _within(value: object, low: float, high: float, whole: bool = False) -> bool:
    """Whether a value is a number (a whole one) from ``low`` to ``high``."""
    return isinstance(value, int if whole else int | float) and low <= value <= high


def _pair(values: object, low: float, high: float, whole: bool = False) -> bool:
    """Whether values are two such numbers, the smaller first."""
    return (
        isinstance(values, tuple | list)
        and len(values) == 2
        and all(_within(v, low, high, whole) for v in values)
        and values[0] <= values[1]
    )


LOOKS = ("day", "night")


@dataclass(frozen=True)
class WorldConfig:
    """Options of the synthetic world.

    Attributes:
        classes: names out of `CLASSES` (8 things) and `MOTIONS` (4 ways in which one thing moves).
        sources: fewest and most sounding objects in view; fewer are likelier.
        muted_share: share of scenes with an object that moves but makes no sound.
        twin_share: share of scenes with a pair of one class.
        twin: ``muted`` (one of the pair is silent) or ``sounding`` (both are heard).
        offscreen_share: share of scenes with a sound whose source is out of view.
        offscreen_db: its level beside the visible sources', lowest and highest, dB.
        distractors: fewest and most silent abstract movers.
        object_size: smallest and largest width of an object, as a fraction of the frame's.
        shared_timbres: every class draws its pitch, decay and noise from one range; otherwise the classes'
            ranges differ but overlap.
        look: ``day``, or ``night``: dark, bluish and noisy; what is heard is the same.
        moment: share of the duration that all this takes, cut into footage of a disc that moves, with sounds that are
            up to 30 dB lower; 1: all of it.
        duration: seconds.
        fps, size, sample_rate: frames a second, pixels a side, samples a second.
    """

    classes: tuple[str, ...] = tuple(CLASSES)
    sources: tuple[int, int] = (1, 2)
    muted_share: float = 0.4
    twin_share: float = 0.0
    twin: str = "muted"
    offscreen_share: float = 0.3
    offscreen_db: tuple[float, float] = (-12.0, -4.0)
    distractors: tuple[int, int] = (0, 2)
    object_size: tuple[float, float] = (0.30, 0.44)
    shared_timbres: bool = False
    look: str = "day"
    moment: float = 1.0
    duration: float = 4.0
    fps: float = 25.0
    size: int = 96
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        for name in self.classes:
            if name not in THINGS:
                raise DataError(f"the world has no class '{name}'{hint(name, THINGS)}")
        checks = {
            "classes": len(self.classes) >= 1,
            "sources": _pair(self.sources, 1, 3, whole=True),
            "muted_share": _within(self.muted_share, 0, 1),
            "twin_share": _within(self.twin_share, 0, 1),
            "twin": self.twin in ("muted", "sounding"),
            "offscreen_share": _within(self.offscreen_share, 0, 1),
            "offscreen_db": _pair(self.offscreen_db, -60, 20),
            "distractors": _pair(self.distractors, 0, 8, whole=True),
            "object_size": _pair(self.object_size, 0.1, 0.6),
            "look": self.look in LOOKS,
            "duration": _within(self.duration, 1, 60),  # shorter than a second may hold no event
            "moment": _within(self.moment, 0, 1) and self._spans_last(),
            "fps": _within(self.fps, 5, 120),
            "size": _within(self.size, 32, 1024, whole=True) and self.size % 2 == 0,
            "sample_rate": _within(self.sample_rate, 8000, 96000, whole=True),
        }
        for name, fine in checks.items():
            if not fine:
                raise DataError(f"the world cannot have {name} = {getattr(self, name)}")

    def _spans_last(self) -> bool:
        """Whether a moment, and what is around it, each last a second: scenes do."""
        return (
            self.moment == 1
            or not _within(self.duration, 1, 60)
            or (min(self.moment, 1 - self.moment) * self.duration >= 1)
        )

    @classmethod
    def preset(cls, name: str, **changes: object) -> "WorldConfig":
        """A named world, with options changed.

        Raises:
            DataError: the preset or an option is unknown, or a value is impossible.
        """
        if name not in PRESETS:
            raise DataError(f"no world preset '{name}'{hint(name, PRESETS)}")
        known = [f.name for f in fields(cls)]
        for key in changes:
            if key not in known:
                raise DataError(f"the world has no option '{key}'{hint(key, known)}")
        return replace(cls(), **{**PRESETS[name], **changes})


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    "hard": {
        "sources": (3, 3),
        "muted_share": 0.0,
        "twin_share": 0.5,
        "twin": "sounding",
        "offscreen_share": 0.5,
        "offscreen_db": (0.0, 0.0),
        "object_size": (0.20, 0.30),
        "shared_timbres": True,
    },
    # For evaluation: one question each.
    "solo": {
        "sources": (1, 1), "muted_share": 0.0, "offscreen_share": 0.0, "distractors": (1, 1),
    },
    "muted": {
        "sources": (1, 1), "muted_share": 1.0, "offscreen_share": 0.0, "distractors": (1, 1),
    },
    "twins": {
        "sources": (1, 1), "muted_share": 0.0, "twin_share": 1.0, "offscreen_share": 0.0,
        "distractors": (0, 1),
    },
    "duets": {
        "sources": (2, 2), "muted_share": 0.0, "offscreen_share": 0.0, "distractors": (1, 1),
    },
    # Sounds as of solo, other looks.
    "night": {
        "sources": (1, 1), "muted_share": 0.0, "offscreen_share": 0.0, "distractors": (1, 1), "look": "night",
    },
    # Long, and a fifth of it shows what it is about.
    "moments": {
        "sources": (1, 1), "muted_share": 0.0, "offscreen_share": 0.0, "distractors": (1, 1), "moment": 0.2,
        "duration": 20.0,
    },
    # One frame says nothing, nor does the audio.
    "motions": {
        "classes": tuple(MOTIONS), "sources": (1, 1), "muted_share": 0.0, "offscreen_share": 0.0,
        "distractors": (0, 0), "object_size": (0.5, 0.6),
    },
}  # fmt: skip
