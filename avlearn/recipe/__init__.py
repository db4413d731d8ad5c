"""Recipes: their keys, and how they are composed of files and overrides; `avlearn.tasks.load_recipe` opens one."""

from avlearn.recipe.compose import compose, list_recipes, share_folder, summary
from avlearn.recipe.schema import Recipe

__all__ = ["Recipe", "compose", "list_recipes", "share_folder", "summary"]
