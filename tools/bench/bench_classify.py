"""Kinds of sounds of real footage, beside chance: python tools/bench/bench_classify.py MEDIA

MEDIA has the files of real_sounds.tsv, whose kinds were written down before anything was measured ("none": none of the
kinds), and faces/singles, which are all speech. Nothing of it was learned from or calibrated on.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import torch

from avlearn.apply.sound_kind import sound_kind
from avlearn.errors import AvlearnError
from avlearn.metrics.interval import wilson_interval
from avlearn.models.sound_kinds import KINDS

LIST = Path(__file__).with_name("real_sounds.tsv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    media: Path = parser.parse_args().media
    torch.set_num_threads(1)
    rows = [(media / row["path"], row["kind"]) for row in csv.DictReader(LIST.open(), delimiter="\t")]
    rows += [(path, "speech") for path in sorted((media / "faces" / "singles").glob("*"))]
    counts: dict[str, Counter[str]] = {}
    for path, kind in rows:
        try:
            heard = sound_kind(path)
        except AvlearnError as error:
            print(f"left out: {error}")
            continue
        group = f"{kind}, {path.parts[len(media.parts)]}"
        own = counts.setdefault(group, Counter())
        own["files"] += 1
        own["best"] += heard.best == kind
        own["named"] += heard.kind is not None
        own["right"] += heard.kind == kind
        if heard.kind not in (None, kind):
            print(f"wrong: {path.relative_to(media)}: {kind}, told {heard.kind} ({heard.confidence:.2f})")
    total = sum(counts.values(), Counter())
    print(f"{'kind, folder':26}files  best is right  named  right")
    for group, own in [*counts.items(), ("all", total)]:
        print(f"{group:26}{own['files']:5}{own['best']:15}{own['named']:7}{own['right']:7}")
    low, high = wilson_interval(1 - (total["named"] - total["right"]) / total["files"], total["files"])
    print(f"right or abstained: {low:.3f} to {high:.3f} (95 %); best is right by chance: {1 / len(KINDS):.3f}")


if __name__ == "__main__":
    main()
