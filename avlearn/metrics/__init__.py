"""Figures, each beside its chance level, a trivial prior and the oracle for the same items."""

from avlearn.metrics.figure import Figure, table

__all__ = ["Figure", "table"]
