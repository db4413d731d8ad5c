"""Files to arrays and back, on one clock."""

from avlearn.media.probe import AudioStream, MediaInfo, VideoStream, probe
from avlearn.media.reader import Clip, ClipReader, Window, read_clip
from avlearn.media.remux import remux
from avlearn.media.source import Selected, Slice
from avlearn.media.stream import stream
from avlearn.media.writer import write_video, write_wav

__all__ = [
    "AudioStream",
    "Clip",
    "ClipReader",
    "MediaInfo",
    "Selected",
    "Slice",
    "VideoStream",
    "Window",
    "probe",
    "read_clip",
    "remux",
    "stream",
    "write_video",
    "write_wav",
]
