"""Audio encoders: log-mel spectrogram in, one feature vector a time step out."""
