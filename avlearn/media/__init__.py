"""Files to arrays and back, on one clock."""

from avlearn.media.clip import Clip, Window
from avlearn.media.file import MediaFile
from avlearn.media.open_file import Slice
from avlearn.media.probe import AudioStream, MediaInfo, VideoStream, probe
from avlearn.media.reader import ClipReader, read_clip
from avlearn.media.remux import remux
from avlearn.media.shared_decoding import SharedDecoding
from avlearn.media.source import Selected
from avlearn.media.stream import stream
from avlearn.media.writer import write_video, write_wav

__all__ = [
    "AudioStream",
    "Clip",
    "ClipReader",
    "MediaFile",
    "MediaInfo",
    "Selected",
    "SharedDecoding",
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
