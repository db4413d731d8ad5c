"""What a recipe may say, and how it is composed from files and overrides; `avlearn.tasks.load_recipe` opens one."""

from avlearn.recipe.compose import compose, list_recipes, share_folder, summary
from avlearn.recipe.schema import Recipe

__all__ = ["Recipe", "compose", "list_recipes", "share_folder", "summary"]
