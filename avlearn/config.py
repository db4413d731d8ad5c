"""The configuration of a model: what its folder stores, declared without PyTorch, for recipes are read without it."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from avlearn.validation import STRICT, Line

Channels = Annotated[int, Field(ge=1, le=4096)]
Mean = Annotated[float, Field(ge=-10, le=10)]
Std = Annotated[float, Field(ge=1e-6, le=1e6)]
Seconds = Annotated[float, Field(ge=0.001, le=600)]
Scale = Annotated[float, Field(gt=0, le=1e6)]


@dataclass(frozen=True)
class Spectrogram:
    """What an audio encoder sees of a sound.

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

    __pydantic_config__ = STRICT

    kind: Literal["log_mel", "log_linear", "mfcc", "waveform"] = "log_mel"
    n_fft: Annotated[int, Field(ge=2, le=8192)] = 512
    window: Annotated[float, Field(gt=0, le=1)] = 0.025
    hop: Annotated[float, Field(gt=0, le=1)] = 0.01
    mels: Annotated[int, Field(ge=1, le=1024)] = 64
    bins: Annotated[int, Field(ge=2, le=4097)] | None = None
    floor: Annotated[float, Field(gt=0, le=1)] = 1e-5
    mean: Annotated[float, Field(ge=-1e4, le=1e4)] = -5.0
    std: Annotated[float, Field(ge=1e-6, le=1e6)] = 4.0
    margin: Annotated[int, Field(ge=0, le=100_000)] = 0


@dataclass(frozen=True)
class SeparatorConfig:
    """A separation network; window and hop of its transform in seconds.

    Attributes:
        channels: widths from the first level to the bottom.
        scale, bins: ``log`` has so many bands of equal frequency ratio (Zhao et al., ECCV 2018), ``linear`` the bins
            of the transform.
        mask: ``ratio``, ``binary`` and ``phase_sensitive`` (Erdogan et al., ICASSP 2015) lie in [0, 1] and keep the
            mixture's phase; ``complex`` (Williamson et al., 2016; linear bins only) estimates the phase too.
        conditioning: how the picture leads. ``film`` scales and shifts every level of the decoder, at every time (Perez
            et al., AAAI 2018, over time as in Owens & Efros, ECCV 2018); ``bottleneck`` joins it to the deepest level
            (Gao & Grauman, ICCV 2019); ``product`` weighs the maps that the decoder ends with (Sound of Pixels, Zhao
            et al., ECCV 2018); ``none`` is no picture at all: outputs in any order (Yu et al., ICASSP 2017).
        query: what is seen: ``place``, at the place that the sound comes from, over time; ``frame``, the strongest
            response anywhere, over time (Owens & Efros); ``pooled``, anywhere at any time (Sound of Pixels).
        sources: of a mixture in training, and outputs of ``none``.
    """

    __pydantic_config__ = STRICT

    channels: tuple[Channels, Channels, Channels, Channels, Channels] = (16, 32, 64, 96, 128)
    window: Annotated[float, Field(ge=0.001, le=0.5)] = 0.064
    hop: Annotated[float, Field(ge=0.0005, le=0.25)] = 0.016
    scale: Literal["log", "linear"] = "log"
    bins: Annotated[int, Field(ge=16, le=2048)] = 256
    mask: Literal["ratio", "binary", "phase_sensitive", "complex"] = "phase_sensitive"
    conditioning: Literal["film", "bottleneck", "product", "none"] = "film"
    query: Literal["place", "frame", "pooled"] = "place"
    sources: Annotated[int, Field(ge=1, le=16)] = 2


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build the model without the recipe that trained it.

    `avlearn.models.audiovisual.AudioVisual` holds it to its annotations, and so does `avlearn.models.folder.load` the
    ``config.json`` of a folder.
    """

    __pydantic_config__ = STRICT

    video: Annotated[str, Field(max_length=64)] = "dsconv_tiny"
    audio: Annotated[str, Field(max_length=64)] = "conv2d_tiny"
    video_options: dict[str, object] = field(default_factory=dict)
    audio_options: dict[str, object] = field(default_factory=dict)
    video_mean: tuple[Mean, Mean, Mean] | tuple[()] = ()  # of the colours; empty: the encoder's own
    video_std: tuple[Std, Std, Std] | tuple[()] = ()
    dim: Annotated[int, Field(ge=1, le=65536)] = 128
    fps: Annotated[float, Field(ge=0.1, le=1000)] = 25.0
    size: Annotated[int, Field(ge=8, le=1024)] = 64  # short side of the input, pixels
    sample_rate: Annotated[int, Field(ge=1000, le=192_000)] = 16000
    seconds: Seconds = 2.0  # the video window it was trained on
    pool_scale: Scale = 20.0
    spectrogram: Spectrogram = field(default_factory=Spectrogram)
    resample: bool = False  # audio features to the steps of the video, where theirs last otherwise
    segment: Seconds | None = None  # seconds that the encoders see at once; None: all
    separator: SeparatorConfig | None = None
    labels: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()  # of the classifiers; empty where there are none
    trained_on: Line = ""  # one line, for the message about files unlike it
    score_scale: Scale = 20.0  # one over the temperature that training ended with
    common_space: bool = True  # whether its objective taught the towers to meet there
