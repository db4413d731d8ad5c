"""The model card that a training writes."""

from pathlib import Path
from typing import Any

from avlearn.recipe import Recipe
from avlearn.tasks import Experiment
from avlearn.training.divergence import Divergence
from avlearn.training.run_folder import METRICS


def model_card(recipe: Recipe, experiment: Experiment[Any], run_dir: Path, divergence: Divergence, best: bool) -> str:
    """Data, recipe, last validation and limits, as Markdown; ``best``: of the best checkpoint, not the last step."""
    rows = (run_dir / METRICS).read_text().splitlines()
    validation = [row for row in rows if "val_loss" in row]
    which = "the one with the lowest loss on validation clips" if best else "that of the last step"
    lowered = " The training diverged once, and went on at half the learning rate." if divergence.lowered else ""
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"Trained on {len(experiment.train)} clips of {experiment.origin}, seed {recipe.seed}, by",
            f"the recipe at the end. The checkpoint is {which}.{lowered}",
            "",
            f"Last validation: `{validation[-1] if validation else 'none'}`",
            "",
            "Limits: it knows what its training clips show. On files unlike them its answers mean little.",
            "",
            "```yaml",
            recipe.to_yaml().rstrip(),
            "```",
            "",
        ]
    )
