import numpy as np
import pytest

from avlearn.signal.peak import vertex


def test_a_parabola_is_found_exactly_and_edges_and_gaps_are_left():
    curve = -((np.arange(7) - 3.3) ** 2)
    assert vertex(curve, 3) == pytest.approx(0.3)
    assert vertex(curve, 0) == vertex(curve, 6) == vertex(np.ones(5), 2) == 0.0
    assert vertex(-curve, 3) == 0.0
    assert vertex(np.array([0.0, 1.0, np.nan]), 1) == vertex(np.array([np.nan, 1.0, 0.0]), 1) == 0.0
