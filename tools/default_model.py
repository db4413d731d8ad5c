"""Make the model that the wheel carries: python tools/default_model.py WORK

WORK gets the worlds and both runs; what is finished there already is used as it is. The model goes to
avlearn/models/zoo/default. About an hour on four cores.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from avlearn.apply.calibrate import calibrated_on, clip_options
from avlearn.apply.run_many import InferenceOptions, run_many
from avlearn.apply.tools import CALIBRATE
from avlearn.data.manifest import read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation import evaluate
from avlearn.media.source import Source
from avlearn.models import in_distribution
from avlearn.models.calibration import save_calibrations
from avlearn.models.folder import load, save
from avlearn.quickstart import add_classifiers
from avlearn.tasks import load_recipe
from avlearn.training.run import pretrain

SEED = 100  # of training clips; those of the figures come from other seeds
SYNC = [
    "data.world.train_clips=4000", "data.world.val_clips=192", "trainer.batch_size=32", "trainer.max_steps=2400",
    "trainer.val_every=200", "trainer.checkpoint_every=200", "trainer.log_every=50", "optimizer.warmup_steps=100",
]  # fmt: skip
SOLOS, SOLO_SEED = 1500, 250  # clips with one source, of other seeds
SEPARATE = [
    f"data.world.train_clips={SOLOS}", f"data.world.seed={SOLO_SEED}", "data.world.val_clips=160",
]  # fmt: skip
TESTS = {
    "standard": (400, 7000), "muted": (300, 7001), "twins": (300, 7002), "solo": (300, 7003), "duets": (200, 7004),
}  # fmt: skip
CALIBRATION = (  # preset, clips, seconds, seed
    ("standard", 240, 4.0, 9001), ("standard", 40, 20.0, 9002), ("hard", 120, 4.0, 9003), ("solo", 60, 4.0, 9004),
)  # fmt: skip
CARD = """# default

A video network of 0.07 million parameters, an audio network of 0.3 million, and a separation U-Net,
trained on nothing but the synthetic world of avlearn: 4000 clips for the towers (2400 steps of 32), 1500
clips with one source each for the separator (4500 steps of 8 mixtures) and the linear classifiers.
Checkpoints were chosen on validation clips of another seed. Made by `tools/default_model.py`.

## Figures

On worlds of seeds that were neither trained nor chosen on ({tests}):

```
{table}
```

## Limits

It knows eight drawn things (ball, bell, drum, fan, mouth, shaker, siren, string) at 96 x 96 pixels. On
camera footage its offsets, maps, tracks and labels mean little; the commands say so when a file is unlike
its training data. Train your own with `avlearn pretrain`.

Licence: Apache-2.0.
"""


def main() -> None:
    """Train what is missing, add classifiers, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work: Path = parser.parse_args().work
    root = f"data.root={work / 'worlds'}"
    if not (work / "sync" / "model" / "config.json").exists():
        pretrain(load_recipe("sync_world", [root, f"data.world.seed={SEED}", *SYNC]), work / "sync")
    if not (work / "separate" / "model" / "config.json").exists():
        words = [root, *SEPARATE, f"separator.base={work / 'sync'}"]
        pretrain(load_recipe("separate_world", words), work / "separate")
    rows = read_manifest(work / "worlds" / f"solo-train-{SOLOS}-{SOLO_SEED}")
    model = add_classifiers(load(work / "separate"), rows, work / "worlds" / "decoded")
    manifests = [
        make_world(
            work / "tests" / preset, clips, seed, WorldConfig.preset(preset), workers=os.cpu_count(), split="test"
        )
        for preset, (clips, seed) in TESTS.items()
    ]
    result = evaluate(model, manifests)
    print(result.text())
    tests = ", ".join(f"{clips} {preset} clips of seed {seed}" for preset, (clips, seed) in TESTS.items())
    zoo = Path(__file__).resolve().parent.parent / "avlearn" / "models" / "zoo" / "default"
    save(model, zoo, CARD.format(tests=tests, table=result.text()))
    measure(zoo, work / "calibration")
    print(f"now: python tools/separate_error.py WORK --calibrate {zoo}")


def measure(folder: Path, work: Path) -> None:
    """Calibrate the model on worlds of other presets, too, than the one that its towers were trained on."""
    paths: list[Source] = []
    for preset, clips, seconds, seed in CALIBRATION:
        config = replace(WorldConfig.preset(preset), duration=seconds)
        manifest = make_world(work / f"{preset}-{seed}", clips, seed, config, workers=os.cpu_count(), split="test")
        paths += [row.source for row in read_manifest(manifest)]
    found = dict(run_many(CALIBRATE, paths, InferenceOptions(str(folder)), each=clip_options(paths)))
    calibrated = calibrated_on([found[number] for number in sorted(found)], {})
    in_distribution.save(calibrated.in_distribution, folder)
    save_calibrations(calibrated.calibrations, folder)
    print("\n".join(calibrated.lines()))


if __name__ == "__main__":
    main()
