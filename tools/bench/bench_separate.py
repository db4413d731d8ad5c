"""How fast is a file separated? python tools/bench/bench_separate.py [--quick]

An ordinary file (640 x 360, 30 frames a second, 48 kHz stereo, made from a seed) goes through all that
`avlearn separate` does for two sources: decoding, maps, tracks as WAV, a video of each. Measured is the time on the
wall, per second of film, with as many threads as torch takes. Peers, in the same run:

- real time
- decoding alone: every frame to the model's 64 pixels and all audio, what no way around is known of
- Sound of Pixels (Zhao et al., ECCV 2018) at its published size, random weights, the same way: windows of 65,535
  samples at 11,025 Hz one after another, 3 frames of each half of the frame, two mono WAV files and no video
"""

import argparse
import json
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import torch
from footage import LENGTH, encode, moving_frames, speech
from torch.nn import functional as F

from avlearn.apply.separate.file import separate_file
from avlearn.media import stream, write_wav
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.released.separators import SoundOfPixels
from avlearn.models.two_tower import frames_to_input

_WINDOW, _RATE = 65535, 11025  # Sound of Pixels'


def film(folder: Path, minutes: float) -> Path:
    """Ten generated seconds over and over."""
    scene, path = folder / "scene.mp4", folder / f"film_{minutes:g}.mp4"
    if not scene.exists():
        encode(
            scene, moving_frames(3, 640, 360, 30), Fraction(30), speech(3, 48_000), 48_000,
            preset="medium", crf="23", g="250", bit_rate=128_000,
        )  # fmt: skip
    with av.open(str(path), "w") as target:
        copies, last = {}, {}
        for k in range(round(minutes * 60 / LENGTH)):
            with av.open(str(scene)) as source:
                streams = source.streams.video[0], source.streams.audio[0]
                for stream_ in streams if not copies else ():
                    copies[stream_.index] = target.add_stream_from_template(stream_)
                for packet in source.demux(streams):
                    index, shift = packet.stream.index, round(LENGTH * k / packet.time_base)
                    # The audio's last block reaches into the next scene.
                    if packet.pts is None or packet.dts + shift <= last.get(index, packet.dts + shift - 1):
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    last[index], packet.stream = packet.dts, copies[index]
                    target.mux(packet)
    return path


def decode(path: Path, model: AudioVisual) -> float:
    """Seconds of film, decoded."""
    config = model.config
    clips = stream(path, 10.0, 10.0, fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True)
    return sum(len(clip.video) / config.fps for clip in clips)


@torch.inference_mode()
def sound_of_pixels(path: Path, peer: SoundOfPixels, folder: Path) -> None:
    parts = []
    seconds = _WINDOW / _RATE
    for clip in stream(path, seconds, seconds, fps=1, size=224, sample_rate=_RATE, mono=True):
        frames = frames_to_input(torch.from_numpy(clip.video))[:, :3].movedim(1, 0)
        half = frames.shape[-1] // 2
        halves = [F.interpolate(side, (224, 224)) for side in (frames[..., :half], frames[..., half:])]
        parts.append(peer.separate(torch.from_numpy(clip.audio), torch.stack(halves)[None])[0])
    tracks = torch.cat(parts, 1).numpy()
    for k, track in enumerate(tracks):
        write_wav(folder / f"peer{k}.wav", track[None], _RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute of film: under a minute")
    parser.add_argument("--minutes", type=float, help="of film (default: 3, quick 0.5)")
    parser.add_argument("--file", type=Path, help="measure on this file instead")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", metavar="FILE", help="write the ratios, a list of rows")
    options = parser.parse_args()
    model, peer = load(options.model), SoundOfPixels().eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = options.file or film(folder, options.minutes or (0.5 if options.quick else 3))
        stages: dict[str, float] = {}

        def ours() -> float:
            begin = time.perf_counter()

            def note(what: str, *_: float) -> None:
                stages[what] = time.perf_counter() - begin

            # Two places, whatever is found there: the film's audio belongs to nothing in it.
            choices = [(0.25, 0.5), (0.75, 0.5)]
            return separate_file(path, model, folder / "out", choices=choices, progress=note).duration

        seconds, spent, used = 0.0, {}, {}
        for name, run in (
            ("avlearn", ours),
            ("decoding alone", lambda: decode(path, model)),
            ("Sound of Pixels", lambda: sound_of_pixels(path, peer, folder)),
        ):
            begin, worked = time.perf_counter(), time.process_time()
            result = run()
            spent[name], used[name] = time.perf_counter() - begin, time.process_time() - worked
            seconds = result if name == "avlearn" else seconds
        mine = spent.pop("avlearn")
    case = f"{seconds:.0f} s of film, 2 sources, {torch.get_num_threads()} threads"
    print(
        f"{case}: {seconds / mine:.1f} times as fast as real time; {used['avlearn'] / seconds:.3f} CPU seconds a second"
    )
    until = 0.0
    for what, end in stages.items():
        print(f"  {what:24}{(end - until) / seconds * 1000:8.1f} ms a second")
        until = end
    rows = []
    for name, other in {"real time": seconds, **spent}.items():
        rows.append(
            {
                "case": case, "peer": name, "ratio": round(other / mine, 3),
                "ours_ms": round(mine / seconds * 1000, 3), "peer_ms": round(other / seconds * 1000, 3),
            }
        )  # fmt: skip
        print(f"{name:26}{other / seconds * 1000:8.1f} ms a second: we are {other / mine:.2f} times as fast")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB, the peer's included")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
