"""Strong random changes: the same in all frames, decided by the generator, and none of the labels is lost."""

import pytest
import torch

from avlearn.data.strong_augment import Mix, draw_mix, rand_augment, random_erasing, soften, spec_augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "change",
    [
        lambda video, g: rand_augment(video, g, layers=2, magnitude=12),
        lambda video, g: random_erasing(video, g, share=1.0),
    ],
)
def test_changes_are_decided_by_the_generator_and_differ_between_clips(change):
    still = torch.rand(1, 3, 1, 32, 40).expand(6, 3, 4, 32, 40).clone()
    found = change(still.clone(), generator())
    assert torch.equal(found, change(still.clone(), generator()))
    assert not torch.equal(found, change(still.clone(), generator(1)))
    assert found.shape == still.shape and found.min() >= 0 and found.max() <= 1
    assert any(not torch.equal(found[0], other) for other in found[1:])


def test_rand_augment_changes_all_frames_alike():
    still = torch.rand(1, 3, 1, 32, 40).expand(8, 3, 5, 32, 40).clone()
    found = rand_augment(still, generator(), layers=2, magnitude=12)
    assert all(torch.allclose(found[:, :, 0], found[:, :, k], atol=1e-6) for k in range(1, 5))


def test_erasing_hides_one_box_in_all_frames():
    found = random_erasing(torch.full((4, 3, 5, 32, 40), 0.5), generator(), share=1.0) != 0.5
    places = found.any(1)  # [B, T, H, W]
    for clip in places:
        rows, columns = clip[0].any(1).nonzero(), clip[0].any(0).nonzero()
        box = clip[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.float().mean() > 0.9 and box[0].numel() < 32 * 40


def test_masks_are_stripes_no_wider_than_asked():
    heard = torch.randn(64, 1, 40, 100)
    hidden = spec_augment(heard, generator(), bands=8, frames=0) != heard
    bands = hidden.all(3)[:, 0].sum(1)
    assert torch.equal(hidden.any(3), hidden.all(3)) and bands.max() == 8 and bands.min() == 0
    hidden = spec_augment(heard, generator(), bands=0, frames=500) != heard
    assert hidden.all(2)[:, 0].sum(1).max() > 90


def test_mixed_labels_are_as_much_as_what_is_seen():
    video, targets = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 2, 20, 30), torch.eye(4)
    kinds = set()
    for seed in range(20):
        mix = draw_mix(4, (20, 30), generator(seed), mixup=0.8, cutmix=1.0)
        kinds.add(mix.box is None)
        mean = mix.of_video(video).mean((1, 2, 3, 4))
        torch.testing.assert_close(mean, mix.of_targets(targets) @ torch.arange(4.0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mix.of_targets(targets).sum(1), torch.ones(4))
    assert kinds == {True, False}
    assert draw_mix(4, (20, 30), generator(), mixup=0, cutmix=0) is None
    assert torch.equal(Mix(torch.tensor([1, 0]), 1.0).of_audio(torch.eye(2)), torch.eye(2))


def test_smoothing_keeps_the_sum():
    found = soften(torch.eye(3), 0.3)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert float(found[0, 0]) == pytest.approx(0.8)
