import numpy as np

from avlearn.report.flow_colours import flow_colours


def colour(x: float, y: float, longest: float = 1.0) -> tuple[int, ...]:
    return tuple(flow_colours(np.array([x, y]).reshape(2, 1, 1), longest)[0, 0].tolist())


def test_the_wheel_is_that_of_middlebury():
    # By C code of colorcode.cpp (Baker et al.), whose first entry is red, and which lies towards the right.
    assert colour(1, 0) == (255, 0, 0)
    assert colour(0, 0) == (255, 255, 255)
    right, down, left, up = (colour(*each) for each in ((1, 0), (0, 1), (-1, 0), (0, -1)))
    assert down[0] > 200 and down[1] > 200 and down[2] == 0  # yellow
    assert left[0] == 0 and left[1] > 200 and left[2] > 200  # cyan
    assert up[0] > 60 and up[1] == 0 and up[2] == 255  # blue to violet
    assert len({right, down, left, up}) == 4


def test_the_longer_the_stronger_and_beyond_darker():
    assert colour(0.5, 0) == (255, 127, 127)
    assert colour(3, 0) == (191, 0, 0)


def test_unknown_is_black_and_the_scale_is_that_of_the_longest():
    flow = np.zeros((2, 2, 2, 3))
    flow[:, 0] = 4
    flow[0, :, 0, 0] = np.nan
    shown = flow_colours(flow)
    assert shown.shape == (2, 2, 3, 3) and shown.dtype == np.uint8
    assert shown[0, 0, 0].tolist() == [0, 0, 0] and shown[1, 1, 1].tolist() == [255, 0, 0]
    assert (flow_colours(np.zeros((2, 3, 3))) == 255).all()


def test_colours_go_round_without_a_step():
    turns = np.linspace(0, 2 * np.pi, 2000)
    shown = flow_colours(np.stack([np.cos(turns), np.sin(turns)])[:, None], 1.0)[0].astype(int)
    assert np.abs(np.diff(shown, axis=0)).max() <= 8
