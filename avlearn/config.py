"""The configuration of a model: its window, front end, towers and separator, each declared once.

Recipes, model folders and code use these classes. PyTorch is not imported: a recipe is read without it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from avlearn.validation import Line, Section, Width

Channels = Annotated[int, Field(ge=1, le=4096)]
Name = Annotated[str, Field(max_length=64)]
Mean = Annotated[float, Field(ge=-10, le=10)]
Std = Annotated[float, Field(ge=1e-6, le=1e6)]
Seconds = Annotated[float, Field(ge=0.001, le=600)]
Scale = Annotated[float, Field(gt=0, le=1e6)]


def _colours(values: object) -> object:
    """Folders of before have an empty list where nothing is said; JSON has lists for tuples."""
    return (tuple(values) or None) if isinstance(values, list) else values


Means = Annotated[tuple[Mean, Mean, Mean] | None, BeforeValidator(_colours)]
Stds = Annotated[tuple[Std, Std, Std] | None, BeforeValidator(_colours)]


class ModelInput(Section):
    """The input of the towers: frames and samples a second, the short side in pixels, seconds."""

    fps: float = Field(25.0, ge=0.1, le=1000)
    size: int = Field(64, ge=8, le=1024)
    sample_rate: int = Field(16000, ge=1000, le=192_000)
    seconds: Seconds = 2.0


class ClipWindow(ModelInput):
    """A window of a training clip; ``context``: seconds of audio before and after it, for shifts."""

    context: float = Field(0.96, ge=0, le=600)


class Spectrogram(Section):
    """The front end of an audio encoder.

    Attributes:
        kind: log power in mel bands or in linear ones; 13 cepstral coefficients; or samples.
        n_fft: length of the transform, samples.
        window, hop: seconds.
        mels: bands of ``log_mel``.
        bins: bands of ``log_linear``; None for those of the transform.
        floor, mean, std: what is added to power before the logarithm; what is subtracted after it, and divided by.
        margin: frames (or samples) of silence before the start and after the end, for encoders that see more frames
            at a step than it lasts.
    """

    kind: Literal["log_mel", "log_linear", "mfcc", "waveform"] = "log_mel"
    n_fft: int = Field(512, ge=2, le=8192)
    window: float = Field(0.025, gt=0, le=1)
    hop: float = Field(0.01, gt=0, le=1)
    mels: int = Field(64, ge=1, le=1024)
    bins: int | None = Field(None, ge=2, le=4097)
    floor: float = Field(1e-5, gt=0, le=1)
    mean: float = Field(-5.0, ge=-1e4, le=1e4)
    std: float = Field(4.0, ge=1e-6, le=1e6)
    margin: int = Field(0, ge=0, le=100_000)


class Separator(Section):
    """A separation network; window and hop of its transform in seconds.

    Attributes:
        channels: widths from the first level to the bottom.
        scale, bins: ``log`` has so many bands of equal frequency ratio (Zhao et al., ECCV 2018), ``linear`` the bins
            of the transform.
        mask: ``ratio``, ``binary`` and ``phase_sensitive`` (Erdogan et al., ICASSP 2015) lie in [0, 1] and keep the
            mixture's phase; ``complex`` (Williamson et al., 2016; linear bins only) estimates the phase too.
        conditioning: how the video leads. ``film`` scales and shifts every level of the decoder, at every time (Perez
            et al., AAAI 2018, over time as in Owens & Efros, ECCV 2018); ``bottleneck`` joins it to the deepest level
            (Gao & Grauman, ICCV 2019); ``product`` weighs the maps that the decoder ends with (Sound of Pixels, Zhao
            et al., ECCV 2018); ``none`` is no video at all: outputs in any order (Yu et al., ICASSP 2017).
        query: what is seen: ``place``, at the place that the sound comes from, over time; ``frame``, the strongest
            response anywhere, over time (Owens & Efros); ``pooled``, anywhere at any time (Sound of Pixels).
        sources: of a mixture in training, and outputs of ``none``.
    """

    channels: tuple[Channels, Channels, Channels, Channels, Channels] = (16, 32, 64, 96, 128)
    window: float = Field(0.064, ge=0.001, le=0.5)
    hop: float = Field(0.016, ge=0.0005, le=0.25)
    scale: Literal["log", "linear"] = "log"
    bins: int = Field(256, ge=16, le=2048)
    mask: Literal["ratio", "binary", "phase_sensitive", "complex"] = "phase_sensitive"
    conditioning: Literal["film", "bottleneck", "product", "none"] = "film"
    query: Literal["place", "frame", "pooled"] = "place"
    sources: int = Field(2, ge=1, le=16)

    @model_validator(mode="after")
    def _fitting(self) -> "Separator":
        if self.mask == "complex" and self.scale == "log":
            raise ValueError("separator.mask: complex takes scale=linear")
        if self.hop > self.window / 2:
            raise ValueError("separator.hop: it is longer than half the window")
        return self


class Encoders(Section):
    """The encoders of video and audio, by their registered names.

    Attributes:
        video_options, audio_options: of the encoders' builders.
        video_mean, video_std: of the colours, in [0, 1]; None: the encoder's own.
        spectrogram: front end of the audio encoder; in a recipe, one that may leave fields open.
    """

    video: Name = "dsconv_tiny"
    audio: Name = "conv2d_tiny"
    video_options: Mapping[str, object] = Field(default_factory=dict)
    audio_options: Mapping[str, object] = Field(default_factory=dict)
    video_mean: Means = None
    video_std: Stds = None
    spectrogram: Section = Spectrogram()


class Towers(Encoders):
    """Encoders, and the space that their features are projected into.

    Attributes:
        dim: of the space.
        resample: audio features to the steps of the video, where theirs last otherwise.
        segment: seconds that the encoders see at once; None: all.
    """

    dim: Width = 128
    resample: bool | None = False
    segment: Seconds | None = None


class ModelConfig(ModelInput, Towers):
    """All that is needed to build the model without the recipe that trained it; ``config.json`` of a folder holds it.

    Attributes:
        labels: of the classifiers; empty where there are none.
        trained_on: one line, for the message about files unlike it.
        score_scale: one over the temperature that training ended with.
        common_space: whether its objective taught the towers to meet there.
    """

    spectrogram: Spectrogram = Spectrogram()
    resample: bool = False
    pool_scale: Scale = 20.0
    separator: Separator | None = None
    labels: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()
    trained_on: Line = ""
    score_scale: Scale = 20.0
    common_space: bool = True


class RecognizerConfig(ModelInput, Encoders):
    """All that is needed to build a recognizer without the recipe that trained it.

    Attributes:
        inputs: what is looked at and listened to; the other encoder is not built.
        fusion: a network of `avlearn.models.fusion` that sees and hears, in place of two encoders side by side; with
            ``fusion_options``.
        segments: frames of a clip, one out of each of so many parts of equal length (TSN, Wang et al., ECCV 2016);
            None: all frames of ``seconds``.
        labels: of the classes.
        multi_label: several may hold of a clip: scores are for a sigmoid, not a softmax.
        trained_on: one line, of the clips.
        fold: of the corpus whose training clips it learned from; None where that has one split.
    """

    spectrogram: Spectrogram = Spectrogram()
    inputs: Literal["video", "audio", "both"] = "video"
    fusion: Name | None = None
    fusion_options: Mapping[str, object] = Field(default_factory=dict)
    segments: int | None = Field(None, ge=1, le=4096)
    labels: Annotated[tuple[Line, ...], Field(min_length=2, max_length=100_000)]
    multi_label: bool = False
    trained_on: Line = ""
    fold: int | None = Field(None, ge=1, le=1000)

    @model_validator(mode="after")
    def _fused(self) -> "RecognizerConfig":
        if self.fusion is not None and self.inputs != "both":
            raise ValueError("recognize.fusion: takes recognize.inputs=both")
        return self

    @property
    def sees(self) -> bool:
        """Whether video is taken."""
        return self.inputs != "audio"

    @property
    def hears(self) -> bool:
        """Whether audio is taken."""
        return self.inputs != "video"

    @property
    def frames(self) -> int:
        """Of a clip."""
        return self.segments or round(self.seconds * self.fps)
