"""Video encoders."""

from avlearn.models.video import (  # noqa: F401
    c3d,
    dsconv,
    inception,
    inflated,
    motionformer,
    mvit,
    p3d,
    r2plus1d,
    resnet,
    slowfast,
    slowfast_tiny,
    swin3d,
    timesformer,
    videomae,
    vivit,
    vtn,
    x3d,
)
