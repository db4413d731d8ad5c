"""Audio encoders: log-mel spectrogram in, one feature vector a time step out."""

from avlearn.models.audio import ast, conv2d, resnet, vgg, waveform  # noqa: F401
