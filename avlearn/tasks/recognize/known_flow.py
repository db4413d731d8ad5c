"""Whether the flow that lies beside prepared clips is what a network would compute of them."""

from collections import Counter
from collections.abc import Iterable

from avlearn.data.manifest import Row
from avlearn.data.prepared_flow import stored_settings
from avlearn.data.transcode import FlowSettings
from avlearn.models.recognizer import Recognizer
from avlearn.terminal import remark


def known_flow(model: Recognizer, rows: Iterable[Row], other: str = "") -> FlowSettings | None:
    """The flow that need not be computed again, where all clips have it; says so, or why it is not used.

    Args:
        model: what is trained, or tested.
        rows: all clips.
        other: what makes frames of which flow that was computed before is not the flow, in words; "": nothing does.
    """
    config = model.config
    if model.video is None or model.video.takes == "video" or config.frames < 2:
        return None
    wanted = FlowSettings(model.video.flow_method, config.fps, config.size)
    found = Counter(stored_settings(row) for row in rows)
    if set(found) == {None}:
        return None
    if other:
        remark(f"flow is computed: {other}; prepared flow is of the middle square of frames, one after the other")
        return None
    if found[wanted] < found.total():
        stored = next((settings for settings in found if settings not in (None, wanted)), None)
        said = f"that of others is {_words(stored)}" if stored else "others have none"
        remark(f"flow is computed: {found[wanted]} of {found.total()} clips have {_words(wanted)}; {said}")
        return None
    remark(f"flow is read as it was prepared: {_words(wanted)}")
    return wanted


def _words(flow: FlowSettings) -> str:
    return f"{flow.method} at {flow.fps:g} frames a second of {flow.size} pixels"
