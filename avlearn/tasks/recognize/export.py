"""What is measured of a recognizer before it is written."""

import torch
from torch import Tensor

from avlearn.data.clips import Clips
from avlearn.models.in_distribution import InDistribution, describe_audio, describe_video
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input

_MOST = 512  # clips


@torch.inference_mode()
def in_distribution_of(model: Recognizer, clips: Clips) -> dict[str, InDistribution]:
    """Statistics of ``video`` and ``audio`` like clips that were not trained on, as far as the network takes them."""
    described: dict[str, list[Tensor]] = {kind: [] for kind in model.encoders}
    if not described:  # a fusion network
        return {}
    step = max(len(clips) // _MOST, 1)
    used = []
    for index in range(0, len(clips), step):
        item = clips[(index, 0, ())]
        if "skipped" in item:
            continue
        used.append(index)
        frames = item["video"][None].to(model.device) if "video" in item else None
        audio = item["audio"][None].to(model.device) if "audio" in item else None
        features = model.features(None if frames is None else frames_to_input(frames), audio)
        if frames is not None:
            described["video"].append(describe_video(features["video"].float(), frames).cpu())
        if audio is not None:
            described["audio"].append(describe_audio(features["audio"].float()).cpu())
    if not used:
        return {}
    found = {kind: InDistribution.fit(torch.cat(parts), torch.tensor(used)) for kind, parts in described.items()}
    return {kind: statistics for kind, statistics in found.items() if statistics is not None}
