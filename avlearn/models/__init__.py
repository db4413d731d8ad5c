"""Encoders, the audio-visual model, and the separation U-Net. ``create_model(name)`` makes an encoder."""

from avlearn.models.registry import create_model, list_models, model_spec

__all__ = ["create_model", "list_models", "model_spec"]
