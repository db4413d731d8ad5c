"""How well does ``avlearn sync`` measure and mend known delays? python tools/sync_error.py WORK [MODEL]"""

import sys
from pathlib import Path

import numpy as np

from avlearn import load, make_world, sync_file
from avlearn.media import remux

DELAYS = (0.0, 0.04, -0.04, 0.12, -0.12, 0.3, -0.3, 0.8, -0.8)  # seconds that the sound is late


def main() -> None:
    """Ten clips of a world of its own, each delay: errors of the offset, and what is left after the fix."""
    work = Path(sys.argv[1])
    model = load(sys.argv[2] if len(sys.argv) > 2 else "default")
    make_world(work / "sync_error", 10, 7000, split="test")
    errors, left, undecided = [], [], 0
    for clip in sorted((work / "sync_error" / "clips").glob("*.mp4")):
        for delay in DELAYS:
            remux(clip, work / "late.mp4", audio_delay=delay)
            offset = sync_file(work / "late.mp4", model).offset
            if offset is None:
                undecided += 1
                continue
            errors.append(abs(offset + delay) * 1000)
            remux(work / "late.mp4", work / "fixed.mp4", audio_delay=offset)
            left.append(abs(sync_file(work / "fixed.mp4", model).offset) * 1000)
    for name, values in (("offset", errors), ("after the fix", left)):
        quantiles = np.percentile(values, [50, 90, 100])
        print(f"{name}: median {quantiles[0]:.1f} ms, 90 % {quantiles[1]:.1f} ms, most {quantiles[2]:.1f} ms")
    print(f"undecided: {undecided} of {len(DELAYS) * 10}")


if __name__ == "__main__":
    main()
