"""Video encoders."""

from avlearn.models.video import dsconv, r2plus1d, slowfast  # noqa: F401
