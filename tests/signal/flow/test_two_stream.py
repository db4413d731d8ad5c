import pytest
import torch

from avlearn.signal.flow import (
    resize_flow,
    stack_bidirectional,
    stack_flow,
    stack_trajectories,
    subtract_mean_flow,
    warp,
)


def numbered(count: int, sign: float = 1.0) -> torch.Tensor:
    """Flows of one pixel each: number k is (k, k + 0.5)."""
    return sign * torch.stack([torch.arange(count), torch.arange(count) + 0.5], 1).view(count, 2, 1, 1)


def test_a_stack_has_x_and_y_of_each_frame_in_turn():
    stacks = stack_flow(numbered(4), 3)
    assert stacks.flatten(1).tolist() == [[0, 0.5, 1, 1.5, 2, 2.5], [1, 1.5, 2, 2.5, 3, 3.5]]


def test_a_trajectory_meets_the_flow_where_it_has_come_to():
    flows = torch.zeros(3, 2, 1, 6)
    flows[:, 0] = 1  # all goes right, and the second component tells where a point is
    flows[:, 1, 0] = torch.arange(6.0) * 0
    flows[1:, 0, 0, 3] = 2
    stack = stack_trajectories(flows, 3)[0]
    assert stack[0::2, 0, 1].tolist() == [1, 1, 2]  # from 1 to 2, to 3, where it is faster
    assert stack[0::2, 0, 2].tolist() == [1, 2, 1]
    still = torch.zeros(3, 2, 2, 2)
    assert stack_trajectories(still, 3).equal(stack_flow(still, 3))


def test_a_trajectory_of_uniform_flow_is_its_stack():
    flows = numbered(5).expand(5, 2, 8, 8)
    assert torch.allclose(stack_trajectories(flows, 4), stack_flow(flows, 4))


def test_both_ways_go_from_the_frame_in_the_middle():
    forward, backward = numbered(6), numbered(6, -1.0)
    stacks = stack_bidirectional(forward, backward, 4)
    assert stacks.shape == (3, 8, 1, 1)
    # Frame 2: on to 3 and 4 by flows 2 and 3, back to 1 and 0 by flows 1 and 0.
    assert stacks[0].flatten().tolist() == [2, 2.5, 3, 3.5, -1, -1.5, 0, -0.5]
    assert stacks[2].flatten().tolist() == [4, 4.5, 5, 5.5, -3, -3.5, -2, -2.5]


def test_the_mean_of_each_flow_is_taken_away():
    flows = torch.randn(3, 2, 4, 5) + 7
    less = subtract_mean_flow(flows)
    assert less.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(less[0] - less[0, :, :1, :1], flows[0] - flows[0, :, :1, :1], atol=1e-5)


def test_stacks_that_cannot_be_are_told():
    with pytest.raises(ValueError, match="2 flows make no stack of 3"):
        stack_flow(numbered(2), 3)
    with pytest.raises(ValueError, match="no halves"):
        stack_bidirectional(numbered(4), numbered(4), 3)
    with pytest.raises(ValueError, match="as many"):
        stack_bidirectional(numbered(4), numbered(3), 2)


def test_warping_takes_what_lies_where_the_flow_leads():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    down = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    assert warp(image, down)[0, 0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]


def test_a_flow_is_resized_with_its_vectors():
    flow = torch.tensor([2.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 6)
    larger = resize_flow(flow, (8, 18))
    assert larger.shape == (1, 2, 8, 18)
    assert torch.allclose(larger[0, :, 3, 3], torch.tensor([6.0, -6.0]))
