"""Optical flow of frames and of files, by any of the methods."""
