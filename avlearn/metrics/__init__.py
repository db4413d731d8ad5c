"""Metrics, each beside its chance level, a trivial prior and the oracle for the same items."""

from avlearn.metrics.metric_result import MetricResult, table

__all__ = ["MetricResult", "table"]
