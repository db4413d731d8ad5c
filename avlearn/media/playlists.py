"""Files that name other files, like playlists: a stranger's must not make FFmpeg open ours, or the network."""

import av

from avlearn.errors import MediaError
from avlearn.files import printable

LOOKED_AT = 512  # bytes at a file's beginning that tell a list
# FFmpeg's demuxers of lists and scripts, and of broadcasts over the network.
_REACHING = {
    "applehttp", "avisynth", "concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp",
    "vapoursynth", "vobsub", "webm_dash_manifest",
}  # fmt: skip
# Options for FFmpeg: the demuxers that read the file itself; that of image sequences takes no name for a pattern.
ONE_FILE = {"format_whitelist": ",".join(sorted(av.formats_available - _REACHING)), "pattern_type": "none"}
_FIRST = (b"#EXTM3U", b"ffconcat version", b"v=0\n", b"v=0\r\n", b"# VobSub index file")
_WITHIN = (b"<MPD", b"<CompositionPlaylist", b":CompositionPlaylist")  # DASH, IMF: after what XML begins with


def refuse_list(head: bytes, name: object) -> None:
    """Refuse a list of other files by its first `LOOKED_AT` bytes; what they do not tell, `ONE_FILE` stops.

    Raises:
        MediaError: it is one.
    """
    head = head[:LOOKED_AT].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_FIRST) or (head.startswith(b"<") and any(word in head for word in _WITHIN)):
        raise MediaError(f"{printable(name)} is a list of other files, not a media file: give the files it names")
