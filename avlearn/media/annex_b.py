"""H.264 and HEVC with start codes instead of lengths, for containers that take nothing else."""

import av
from av.bitstream import BitStreamFilterContext


def is_length_prefixed(stream: av.stream.Stream) -> bool:
    """Whether a stream's packets state the lengths of their NAL units, as in MP4 and Matroska."""
    context = stream.codec_context
    coded = stream.type == "video" and context is not None and context.name in ("h264", "hevc")
    return coded and (context.extradata or b"")[:1] == b"\x01"


def start_code_filter(stream: av.stream.Stream) -> BitStreamFilterContext:
    """What puts start codes into a stream's packets."""
    return BitStreamFilterContext(f"{stream.codec_context.name}_mp4toannexb", stream)
