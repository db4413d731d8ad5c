"""Faces in files: tracks over shots, and the crops that other networks take."""

from avlearn.apply.faces.crops import FACE, MOUTH, View
from avlearn.apply.faces.looks import mouth_tracks, side_of, spread
from avlearn.apply.faces.tracks import FaceTrack, face_tracks

__all__ = ["FACE", "MOUTH", "FaceTrack", "View", "face_tracks", "mouth_tracks", "side_of", "spread"]
