"""Names that somebody may have meant by one that is not known."""

from collections import Counter
from collections.abc import Collection, Iterable

_LEAST = 0.3  # likeness below which a name says nothing of another
_LISTED = 20  # of so many known names all are told where none is like
_LONGEST = 100  # letters that are looked at


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The known names that are most like one, the likest first; fewer, or none, where no more are like it.

    Names that hold the whole word come first. The others share pairs of letters with it (Dice, Ecology 1945).

    >>> nearest("resnet", ["r3d_18", "resnet9", "vtn_b"])
    ['resnet9']
    """
    word = name[:_LONGEST].lower()
    likeness = {other: (bool(word) and word in other.lower(), _shared(word, other.lower())) for other in known}
    like = [other for other, (holds, shared) in likeness.items() if holds or shared >= _LEAST]
    return sorted(like, key=likeness.__getitem__, reverse=True)[:count]


def hint(name: str, known: Collection[str], what: str = "", count: int = 1) -> str:
    """The end of a message that a name is not known: the nearest, or all that there are, where none is like it.

    Args:
        name: that is not known.
        known: those that are.
        what: they are, in one word or two; "" where the message says that.
        count: of the nearest that are named, at most.

    >>> hint("drf", ["draft", "final"])
    "; the nearest is 'draft'"
    """
    near = [f"'{other}'" for other in nearest(name, known, count)]
    if near:
        kind = f" {what}{'s' * (len(near) > 1)}" if what else ""
        return f"; the nearest{kind} {'is' if len(near) == 1 else 'are'} {', '.join(near)}"
    if not known:
        return "; there are none"
    return f"; there are {', '.join(known)}" if len(known) <= _LISTED else ""


def _shared(word: str, other: str) -> float:
    """From 0 to 1: pairs of neighbouring letters that two words share, their ends included."""
    ours, theirs = (Counter(map(str.__add__, f" {text}", f"{text} ")) for text in (word, other))
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())
