"""Errors that the user can mend. The command line prints these as one line and exits with 2, or with what they say."""


class AvlearnError(Exception):
    """Base of every error that the user can mend: says what, where, and what to do, in one line."""

    exit_code = 2

    def __str__(self) -> str:
        """The line; names in it come from strangers, and keep their control characters escaped."""
        from avlearn.files import printable  # which raises errors of this kind

        return printable(super().__str__())


class MediaError(AvlearnError):
    """A file cannot be read, or cannot be written."""


class NoVideoError(MediaError):
    """The file has no video (or the video stream holds no frame)."""


class NoAudioError(MediaError):
    """The file has no audio track (or the track holds no sample)."""


class WindowError(MediaError):
    """The window asked for lies outside the file."""


class RecipeError(AvlearnError):
    """A recipe has an unknown key, a wrong type, or an impossible value."""


class DataError(AvlearnError):
    """A manifest or a data set cannot be used."""


class ModelError(AvlearnError):
    """A model is unknown, or its folder cannot be read."""


class MissingExtraError(AvlearnError):
    """A package of an optional extra is not installed."""


class SyncError(AvlearnError):
    """A file's audio cannot be put in sync with its video."""


class OutputError(AvlearnError):
    """A result cannot be written where it was asked to go."""


class DivergedError(AvlearnError):
    """A training's loss, gradients or weights are no numbers any more."""

    exit_code = 1
