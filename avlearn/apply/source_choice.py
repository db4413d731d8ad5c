"""What a person asks `separate` for: a number, a place, a face, or the moments at which it sounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from avlearn.errors import AvlearnError

MAX_SOURCES = 8
_HALVES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 1.0, 1.0)}

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """A face by its number, in the order in which faces appear (see `avlearn.apply.faces.FaceTrack`)."""

    number: int

    def __str__(self) -> str:
        """As on the command line."""
        return f"face {self.number}"


@dataclass(frozen=True)
class When:
    """Whatever sounds in some spans: begin and end, seconds from the file's first frame."""

    spans: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        """As on the command line."""
        return "--when " + ",".join(f"{begin:g}-{end:g}" for begin, end in self.spans)


class NoSuchFaceError(AvlearnError):
    """No face is what was asked for, or one is twice."""


# A source's number, a point, or a box, in fractions of the frame; or one of the above.
Choice = int | Point | Box | Face | When


def parse_choice(text: str) -> Choice:
    """A source as ``--source`` names it: its number, ``left``, ``right``, a point, a box, or ``face N``.

    Raises:
        AvlearnError: it is none of these.
    """
    if text in _HALVES:
        return _HALVES[text]
    if text.isdecimal():
        return int(text)
    kind, _, number = text.partition(" ")
    if kind == "face" and number.isdecimal() and int(number):
        return Face(int(number))
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    ordered = len(numbers) == 2 or (len(numbers) == 4 and numbers[0] < numbers[2] and numbers[1] < numbers[3])
    if not ordered or not all(0 <= number <= 1 for number in numbers):
        raise AvlearnError(
            f"'{text}' names no source: give left, right, x,y or x0,y0,x1,y1 in fractions of the frame, "
            'the number of a source, or "face N"'
        )
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (numbers[0], numbers[1], numbers[2], numbers[3])


def parse_when(text: str) -> When:
    """Spans as ``--when`` names them: ``6.3-7``, or ``6.3-7,9-9.5`` for several of one source.

    Raises:
        AvlearnError: it is no such thing.
    """
    try:
        spans = tuple((float(begin), float(end)) for begin, end in (part.split("-") for part in text.split(",")))
    except ValueError:
        spans = ()
    if not spans or not all(0 <= begin < end < float("inf") for begin, end in spans):
        raise AvlearnError(f"--when {text} is no span: give its begin and end in seconds, as 6.3-7, or 6.3-7,9-9.5")
    return When(spans)


def check_choices(choices: Sequence[Choice], duration: float) -> None:
    """Refuse, before the work, what no file of this length can hold.

    Raises:
        AvlearnError: too many are asked for, or a span begins or ends after the file.
    """
    if len(choices) > MAX_SOURCES:
        raise AvlearnError(f"{len(choices)} sources are too many: ask for {MAX_SOURCES} at most")
    for choice in choices:
        if isinstance(choice, When) and max(end for _, end in choice.spans) > duration + 0.05:
            raise AvlearnError(f"{choice}: the file ends at {duration:.1f} s")


def no_such_face(number: int, found: int) -> NoSuchFaceError:
    """The error that there are not as many faces."""
    said = "no face was found" if not found else f"only {found} face{'s were' if found > 1 else ' was'} found"
    return NoSuchFaceError(f"face {number}: {said}")
