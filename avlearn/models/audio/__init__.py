"""Audio encoders: log-mel spectrogram in, one feature vector a time step out."""

from avlearn.models.audio import conv2d, resnet  # noqa: F401
