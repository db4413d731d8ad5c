"""The training loop of every task, from a recipe to a run folder with a model in it."""
