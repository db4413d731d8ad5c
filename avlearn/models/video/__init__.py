"""Video encoders."""
