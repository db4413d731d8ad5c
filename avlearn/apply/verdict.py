"""Verdicts of all tools in one wording, and that a model cannot tell."""

from collections.abc import Mapping

CANNOT_TELL = "this model cannot tell"
NOTHING_ON_SCREEN = "nothing on screen explains the sound"
SILENT = "the audio track is silent"


def undecided(verdict: str) -> int:
    """A command's exit code: 3 where the model cannot tell, else 0."""
    return 3 if verdict == CANNOT_TELL else 0


def unlike_training(known: Mapping[str, bool | None], trained_on: str) -> str | None:
    """A clause that says what of a file is unlike the training data; None where nothing is.

    Args:
        known: whether ``video`` and ``audio`` are in-distribution; None where that was never measured.
        trained_on: what the model was trained on, in a few words.
    """
    names = [kind for kind, inside in known.items() if inside is False]
    if not names:
        return None
    be = "is" if len(names) == 1 else "are"
    return f"the {' and the '.join(names)} {be} unlike what it was trained on, {trained_on or 'unknown data'}"


def not_measured(known: Mapping[str, bool | None], calibrated: bool) -> str | None:
    """A clause that says why silence about a cause means nothing; None where the model was shown to know such files.

    Args:
        known: as for `unlike_training`.
        calibrated: whether the model's probabilities were held to clips with known truth.
    """
    lacks = ["its probabilities are not calibrated"] if not calibrated else []
    if any(inside is None for inside in known.values()):
        lacks.append("it was never measured which files are like its training data")
    return " and ".join(lacks) or None


ADVICE = "adapt it to files like these: avlearn adapt FOLDER -o MODEL"
