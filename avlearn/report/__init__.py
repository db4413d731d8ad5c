"""Results to images and one self-contained page."""

from avlearn.report.page import Page

__all__ = ["Page"]
