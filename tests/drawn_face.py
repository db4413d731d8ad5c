"""A drawn face that the detector takes for one: tests hold no photograph."""

import cv2
import numpy as np


def drawn_face(at, *, size=66, mouth=0.0, canvas=(180, 240), tilt=0.0, ground=(70, 90, 80), frame=None):
    """uint8 ``[H, W, 3]`` with a face of `size` pixels about the point `at` (x, y); over `frame`, if given.

    Args:
        mouth: by how much it is open, in [0, 1].
        tilt: degrees by which the head is tilted clockwise.
    """
    fine = 4
    height, width = canvas
    image = np.full((height * fine, width * fine, 3), ground, np.uint8)
    if frame is not None:
        image = cv2.resize(frame, (width * fine, height * fine), interpolation=cv2.INTER_LINEAR)
    unit = size * fine
    cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))

    def ellipse(x, y, wide, high, colour):
        centre = (int(at[0] * fine + (x * cos - y * sin) * unit), int(at[1] * fine + (x * sin + y * cos) * unit))
        axes = (max(int(wide * unit), 1), max(int(high * unit), 1))
        cv2.ellipse(image, centre, axes, tilt, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -0.12, 0.46, 0.58, (60, 40, 30))  # hair
    ellipse(0, 0.02, 0.38, 0.52, (215, 170, 140))
    for side in (-1, 1):
        ellipse(side * 0.16, -0.09, 0.085, 0.045, (240, 240, 240))
        ellipse(side * 0.16, -0.09, 0.042, 0.042, (50, 35, 25))
        ellipse(side * 0.16, -0.19, 0.1, 0.02, (70, 45, 30))
        ellipse(side * 0.03, 0.13, 0.02, 0.012, (120, 75, 60))
    ellipse(0, 0.28, 0.14, 0.03 + 0.09 * mouth, (170, 70, 70))
    ellipse(0, 0.28, 0.1, 0.1 * mouth, (60, 20, 20))
    return cv2.resize(cv2.GaussianBlur(image, (0, 0), 0.012 * unit), (width, height), interpolation=cv2.INTER_AREA)
