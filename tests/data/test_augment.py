import torch

from avlearn.data.augment import augment_audio, draw_change

STILL = {"flip": False, "brightness": 0.0, "contrast": 0.0, "colour": 0.0}


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def ramps(clips: int, side: int = 32) -> torch.Tensor:
    """``[B, 3, 4, side, side]``: red from left to right, green from top to bottom, blue with time."""
    across, down = torch.arange(side).add(0.5).div(side).expand(side, side), torch.arange(4) / 4
    red, green = (x.expand(clips, 4, side, side) for x in (across, across.T))
    return torch.stack([red, green, down[:, None, None].expand(clips, 4, side, side)], 1).clone()


def changed(video: torch.Tensor, generator: torch.Generator, **options) -> torch.Tensor:
    return draw_change(len(video), video.device, generator, **options).of_video(video)


def test_nothing_to_change_changes_nothing():
    assert torch.equal(changed(ramps(2), seed(0), **STILL), ramps(2))
    audio = torch.randn(2, 100)
    assert torch.equal(augment_audio(audio, seed(0), gain=0.0), audio)


def test_a_zoomed_clip_is_a_window_of_it_the_same_in_all_frames():
    seen = changed(ramps(64), seed(0), **STILL, zoom=0.4)
    assert torch.allclose(seen[:, 2], ramps(64)[:, 2])  # each frame stays at its time
    assert torch.allclose(seen[:, :2, :1].expand(-1, -1, 4, -1, -1), seen[:, :2], atol=1e-6)
    inner = seen[:, 0, 0, 16, 1:-1]  # within the window a ramp stays a ramp, less steep by what was cut off
    slopes = inner.diff(dim=1) * 32
    assert torch.allclose(slopes, slopes[:, :1].expand_as(slopes), atol=1e-4)
    assert 0.59 < slopes.min() < 0.65 and 0.95 < slopes.max() < 1.001
    left, right = seen[:, 0, 0, 16, 0], seen[:, 0, 0, 16, -1]
    assert left.min() >= 0 and right.max() <= 1 and left.max() > 0.2 and right.min() < 0.8
    down = seen[:, 1, 0, 1:-1, 16].diff(dim=1) * 32
    assert torch.allclose(down[:, 0], slopes[:, 0], atol=1e-4)  # the shape of things is kept


def test_light_changes_by_clip_and_stays_in_range():
    seen = changed(ramps(16), seed(1), flip=False, brightness=0.25, contrast=0.25, colour=0.15)
    assert seen.min() >= 0 and seen.max() <= 1
    change = (seen - ramps(16))[:, :, :, 8:-8, 8:-8].mean((2, 3, 4))
    assert change.std(0).min() > 0.02 and (change[:, 0] - change[:, 1]).abs().max() > 0.02


def test_half_of_the_clips_are_mirrored_and_the_audio_is_scaled():
    seen = changed(ramps(64), seed(2), **{**STILL, "flip": True})
    mirrored = seen[:, 0, 0, 0, 0] > 0.5
    assert 16 < mirrored.sum() < 48
    assert torch.equal(seen[mirrored].flip(-1), ramps(int(mirrored.sum())))
    gains = augment_audio(torch.ones(256, 10), seed(3), gain=0.35)
    assert gains.std(1).max() == 0 and 0.70 < gains.min() < 0.74 and 1.36 < gains.max() < 1.42


def test_flow_is_mirrored_and_zoomed_as_the_frames_are():
    """Of motion by one affine map, what is told of changed frames is the changed flow."""
    generator = seed(1)
    change = draw_change(12, torch.device("cpu"), generator, flip=True, brightness=0, contrast=0, colour=0, zoom=0.4)
    assert 0 < change.mirrored.sum() < 12
    places = torch.linspace(0, 1, 32).expand(12, 3, 1, 32, 32)  # a pixel's x, as a share of the width
    flow = torch.stack([0.5 + 2 * places[:, 0], -places[:, 0]], 1)
    seen = change.of_video(places.clone())[:, 0]
    left = 1 / (change.of_flow(torch.ones_like(flow))[:, 1].mean((1, 2, 3)))
    sign = torch.where(change.mirrored, -1.0, 1.0).view(-1, 1, 1, 1)
    nearer = (1 / left).view(-1, 1, 1, 1)
    changed = change.of_flow(flow)
    torch.testing.assert_close(changed[:, 0], sign * (0.5 + 2 * seen) * nearer, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(changed[:, 1], -seen * nearer, rtol=1e-4, atol=1e-4)
    assert (left < 1).all() and (left >= 0.6).all()
