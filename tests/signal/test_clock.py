"""Features on another clock: means of what each step lasts over."""

import pytest
import torch

from avlearn.signal.clock import to_steps


def test_steps_are_means_of_what_they_last_over():
    """Half a second lasts over three steps of 0.16 s and an eighth of the fourth."""
    features = torch.randn(2, 3, 13)
    found = to_steps(features, 0.16, 4, 0.5)
    first = (0.16 * features[..., :3].sum(2) + 0.02 * features[..., 3]) / 0.5
    assert torch.allclose(found[..., 0], first, atol=1e-6)
    assert found.shape == (2, 3, 4)


def test_longer_steps_are_repeated_by_their_share():
    ramp = torch.arange(6.0)[None, None]
    found = to_steps(ramp, 0.1, 8, 0.08)[0, 0]
    assert torch.allclose(found, torch.tensor([0, 0.75, 1.5, 2.25, 3, 4, 4.75, 5]), atol=1e-6)


@pytest.mark.parametrize(("step", "count", "wanted"), [(0.16, 4, 0.5), (0.1, 8, 0.08), (1024 / 21000, 74, 4 / 30)])
def test_what_is_constant_stays_so_to_the_end(step, count, wanted):
    features = torch.full((1, 1, int(count * wanted / step)), 3.0)
    assert torch.allclose(to_steps(features, step, count, wanted), torch.full((1, 1, count), 3.0), atol=1e-5)


def test_its_own_clock_changes_nothing():
    features = torch.randn(1, 2, 9)
    assert torch.allclose(to_steps(features, 0.08, 9, 0.08), features, atol=1e-6)
