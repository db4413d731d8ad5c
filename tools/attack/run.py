"""Attack avlearn with damaged and hostile files: every one has to end in a result or in an error of one line.

python tools/attack/run.py                          all kinds, a sample
python tools/attack/run.py media --count 10000 --media FOLDER
python tools/attack/run.py weights --seed 3 --only zip-17

Kinds are the modules beside this file: each yields named cases from a seed. A case runs in a child with 10 s of
processor time and 3 GB. Exit code 1 if one crashed, hung, took more memory, or raised what is no AvlearnError.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a forked child lacks its parent's threads

from harness import Outcome, run_case

KINDS = ("media", "weights", "folders", "manifests", "recipes")
COLUMNS = ("result", "typed", "untyped", "crash", "hang", "memory")


def attack(kind: str, seed: int, count: int, media: Path | None = None, only: str | None = None) -> dict[str, Outcome]:
    """Run the cases of a kind; names and outcomes, in order."""
    outcomes = {}
    originals = {"media": media} if kind == "media" else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, call in import_module(kind).cases(seed, count, Path(scratch), **originals):
            if only in (None, name, name.partition(" ")[0]):
                outcomes[name] = run_case(call)
                if not outcomes[name].good:
                    print(
                        f"  {kind} {name}: {outcomes[name].kind}: {outcomes[name].detail}", file=sys.stderr, flush=True
                    )
    return outcomes


def main() -> None:
    """Attack, print a table, and list what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=f"of {', '.join(KINDS)}; else all"
    )
    parser.add_argument("--count", type=int, default=200, help="cases of each kind (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--media", type=Path, metavar="FOLDER", help="videos to damage, beside those that are made")
    parser.add_argument("--only", metavar="NAME", help="that case alone (of media, its number will do)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome")
    given = parser.parse_args()
    if unknown := set(given.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    print(f"{'kind':10}{'cases':>8}" + "".join(f"{name:>9}" for name in COLUMNS) + f"{'max s':>8}{'max MB':>8}")
    found, bad = {}, 0
    for kind in given.kinds or KINDS:
        outcomes = found[kind] = attack(kind, given.seed, given.count, given.media, given.only)
        counts = Counter(outcome.kind for outcome in outcomes.values())
        slowest = max((outcome.cpu for outcome in outcomes.values()), default=0)
        largest = max((outcome.peak for outcome in outcomes.values()), default=0) / 1e6
        row = "".join(f"{counts[name]:>9}" for name in COLUMNS)
        print(f"{kind:10}{len(outcomes):>8}{row}{slowest:>8.1f}{largest:>8.0f}", flush=True)
        bad += sum(not outcome.good for outcome in outcomes.values())
    if given.json:
        rows = {kind: {name: asdict(outcome) for name, outcome in outcomes.items()} for kind, outcomes in found.items()}
        given.json.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
