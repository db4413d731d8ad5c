"""Losses: features to a scalar and what to log. Each names the negatives that it uses."""

from avlearn.objectives.dense import Dense, ObjectiveOutput

__all__ = ["Dense", "ObjectiveOutput"]
