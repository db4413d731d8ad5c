"""How well does ``avlearn sync`` measure, mend, and refuse? python tools/sync_error.py WORK

All clips are of worlds of their own, rendered into WORK; the confidence is that of the model's folder.
"""

import argparse
from pathlib import Path

import numpy as np
from reliability import reliability

from avlearn import load, make_world, read_clip
from avlearn.apply.sync.by_model import SyncResult, sync_by_model
from avlearn.apply.sync.fix import fix_file
from avlearn.data.world import WorldConfig
from avlearn.errors import SyncError
from avlearn.media import remux, write_video, write_wav
from avlearn.models.audiovisual import AudioVisual

SHORT, LONG = (4.0, 200, 8200), (30.0, 30, 8201)  # seconds, clips, seed
FURTHEST = 2.0  # seconds that the audio is late or early
DRIFTS = (-2400, -300, -100, 100, 300, 2400)  # milliseconds a minute by which the audio is ever later
BINS = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def world(work: Path, seconds: float, clips: int, seed: int) -> list[Path]:
    """The clips of a world."""
    folder = work / f"world-{seed}"
    make_world(folder, clips, seed, WorldConfig(duration=seconds), workers=2, split="test")
    return sorted((folder / "clips").glob("*.mp4"))[:clips]


def is_right(result: SyncResult, truth: float, step: float) -> bool:
    """Whether the best offset is the true one to a step of the model, be it named or not."""
    return result.best is not None and abs(result.best - truth) <= step


def quantiles(name: str, values: list[float]) -> None:
    """A line of a figure's spread, milliseconds."""
    middle, high, most = np.percentile(np.abs(values) * 1000, [50, 95, 100])
    print(f"{name}: median {middle:.1f} ms, 95 % {high:.1f} ms, most {most:.1f} ms (n = {len(values)})")


def report_short(work: Path, model: AudioVisual) -> None:
    """Delayed clips before and after the fix; silence, stills, and another's audio."""
    clips = world(work, *SHORT)
    rng = np.random.default_rng(1)
    named, left, undecided = [], [], {"true": 0, "silent": 0, "still": 0, "unrelated": 0}
    confidences, right = [], []
    late, bad, fixed = work / "late.mp4", work / "bad.mp4", work / "fixed.mp4"
    for k, clip in enumerate(clips):
        delay = rng.uniform(-FURTHEST, FURTHEST)
        remux(clip, late, audio_delay=delay)
        result = sync_by_model(late, model)
        confidences.append(result.confidence)
        right.append(is_right(result, -delay, model.step))
        if result.offset is None:
            undecided["true"] += 1
        else:
            named.append(result.offset + delay)
            fix_file(result, fixed)
            # What is left, by the truth and by measuring again.
            left.append((result.offset + delay, sync_by_model(fixed, model).offset))
        whole = read_clip(clip)
        write_video(bad, whole.video, whole.fps, audio=whole.audio * 0, sample_rate=whole.sample_rate)
        undecided["silent"] += sync_by_model(bad, model).offset is None
        still = np.repeat(whole.video[:1].astype(np.float32), len(whole.video), 0)
        if k % 2:  # a camera's noise moves where nothing else does
            still += rng.normal(0, 2, still.shape)
        frames = still.round().clip(0, 255).astype(np.uint8)
        write_video(bad, frames, whole.fps, audio=whole.audio, sample_rate=whole.sample_rate)
        undecided["still"] += sync_by_model(bad, model).offset is None
        remux(clip, bad, replace_audio=clips[(k + rng.integers(1, len(clips))) % len(clips)])
        result = sync_by_model(bad, model)
        undecided["unrelated"] += result.offset is None
        confidences.append(result.confidence)
        right.append(False)
    print(f"{len(clips)} clips of {SHORT[0]:g} s, delayed by -{FURTHEST:g} to {FURTHEST:g} s")
    quantiles("  offset that is named", named)
    again = [measured for _, measured in left if measured is not None]
    quantiles("  after --fix, measured again", again)
    print(f"  after --fix, undecidable: {len(left) - len(again)} of {len(left)}")
    for name, count in undecided.items():
        print(f"  undecidable, {name}: {count} of {len(clips)} ({count / len(clips):.3f})")
    cases = "Half of the clips are delayed, half have another audio; right is an offset within a step."
    title = "Is the confidence of avlearn sync right?"
    reliability(np.array(confidences), np.array(right), BINS, title, cases, work / "reliability.html")


def report_long(work: Path, model: AudioVisual) -> None:
    """Drifts and edits: which are found, how exactly; and which are seen where there are none."""
    clips = world(work, *LONG)
    rng = np.random.default_rng(2)
    made, fixed = work / "made.mp4", work / "fixed.mp4"
    seen = {"drift": 0, "step": 0, "unrelated": 0}
    drifts: dict[int, list] = {drift: [] for drift in DRIFTS}
    left, jumps, times, refused = [], [], [], 0
    for k, clip in enumerate(clips):
        result = sync_by_model(clip, model)
        seen["drift"] += result.drift is not None
        seen["step"] += bool(result.steps)
        remux(clip, made, replace_audio=clips[(k + rng.integers(1, len(clips))) % len(clips)])
        seen["unrelated"] += sync_by_model(made, model).offset is not None
        drift = DRIFTS[k % len(DRIFTS)]
        slope = drift / 60_000
        remux(clip, made, audio_delay=rng.uniform(-0.5, 0.5), audio_drift=slope)
        result = sync_by_model(made, model)
        # Audio that is late by d + s t at its own time t is late by (d + s t) / (1 - s) at the video's.
        drifts[drift].append(None if result.drift is None else result.drift + drift / (1 - slope))
        if result.drift is not None:
            fix_file(result, fixed, resample=True)
            again = sync_by_model(fixed, model)
            left.append(again.offset if again.drift is None else np.inf)
        recording = read_clip(clip, video=False)
        at, before = rng.uniform(8, 22), rng.uniform(-0.5, 0.5)
        after = before + rng.choice([-1, 1]) * rng.uniform(0.08, 1.0)
        moved = edited(recording.audio, recording.sample_rate, at, before, after)
        write_wav(work / "cut.wav", moved, recording.sample_rate)
        remux(clip, made, replace_audio=work / "cut.wav")
        result = sync_by_model(made, model)
        if len(result.steps) == 1:
            step = result.steps[0]
            times.append(step["time"] - at)
            jumps += [step["before"] - before, step["after"] - after]
            try:
                fix_file(result, fixed)
            except SyncError:
                refused += 1
    print(f"{len(clips)} clips of {LONG[0]:g} s")
    print(
        f"  seen where there is none: drift {seen['drift']}, step {seen['step']}; unrelated named {seen['unrelated']}"
    )
    for drift, errors in drifts.items():
        found = [abs(e) for e in errors if e is not None]
        said = f", median error {np.median(found):.1f}, most {np.max(found):.1f} ms a minute" if found else ""
        print(f"  drift of {drift:+d} ms a minute: found in {len(found)} of {len(errors)}{said}")
    quantiles("  after --fix --drift, measured again", left)
    print(f"  one edit of 80 to 1000 ms: found in {len(times)} of {len(clips)}, --fix refused {refused}")
    quantiles("  offsets on both sides", jumps)
    quantiles("  when it is", times)


def edited(audio: np.ndarray, rate: int, at: float, before: float, after: float) -> np.ndarray:
    """Audio ``[C, S]`` that leads by one offset up to a time, and by another from there on."""
    index = np.arange(audio.shape[1])
    source = index + np.round(np.where(index < at * rate, before, after) * rate).astype(int)
    inside = (source >= 0) & (source < audio.shape[1])
    return np.where(inside, audio[:, source.clip(0, audio.shape[1] - 1)], 0).astype(np.float32)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    report_short(args.work, model)
    report_long(args.work, model)


if __name__ == "__main__":
    main()
