"""Weights from elsewhere: files read as data, fetched, and named as our encoders name them."""
