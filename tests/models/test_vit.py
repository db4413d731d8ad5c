"""Video transformers: against timm's ViT where they are one, and what their figures cannot show."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from avlearn.models import create_model
from avlearn.models.video.motionformer import Motionformer, TrajectoryAttention
from avlearn.models.video.timesformer import TimeSformer
from avlearn.models.video.videomae import VideoMAE, sinusoids
from avlearn.models.video.vit import Attention, resize_positions
from avlearn.models.video.vivit import DotProductAttention, FactorisedViViT, ViViT
from avlearn.models.video.vjepa2 import VJEPA2, rotated, rotations
from avlearn.models.video.vtn import VTN, WindowAttention

TINY = {"size": 32, "dim": 48, "depth": 2, "heads": 4}
MODELS = {
    "timesformer": lambda **k: TimeSformer(frames=4, **TINY, **k),
    "timesformer space": lambda **k: TimeSformer("space", frames=4, **TINY, **k),
    "timesformer joint": lambda **k: TimeSformer("joint", frames=4, **TINY, **k),
    "vivit": lambda **k: ViViT(frames=4, **TINY, **k),
    "vivit factorised encoder": lambda **k: FactorisedViViT(frames=4, temporal_depth=2, **TINY, **k),
    "vivit factorised self-attention": lambda **k: ViViT("self", frames=4, **TINY, **k),
    "vivit factorised dot product": lambda **k: ViViT("dot", frames=4, **TINY, **k),
    "vtn": lambda **k: VTN(temporal_depth=2, **TINY, **k),
    "videomae": lambda **k: VideoMAE(frames=4, **TINY, **k),
    "vjepa2": lambda **k: VJEPA2(**{key: value for key, value in TINY.items() if key != "size"}, **k),
    "motionformer": lambda **k: Motionformer(frames=4, **TINY, **k),
}
models = pytest.mark.parametrize("name", MODELS)
AUTHORS_VJEPA2 = [0.308395, 0.270544, -0.25153, -0.261935, 0.026692, 0.071586, -0.113372, -0.150422]


def shaken(model: nn.Module) -> nn.Module:
    """With random values in every parameter, in eval mode."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def image_network(size: int = 32) -> nn.Module:
    return shaken(
        timm.create_model("vit_base_patch16_224", img_size=size, embed_dim=48, depth=2, num_heads=4, num_classes=5)
    )


def with_classes(model: nn.Module, classes: int = 5) -> nn.Module:
    model.reset_classifier(classes)
    return model.eval()


def renamed(weights: dict) -> dict:
    return {name.replace("head.", "classifier."): value for name, value in weights.items()}


def test_space_only_is_timms_network_for_one_frame():
    theirs = image_network()
    ours = with_classes(TimeSformer("space", frames=1, **TINY))
    ours.load_state_dict(renamed(theirs.state_dict()))
    x = torch.rand(2, 3, 1, 32, 32)
    with torch.no_grad():
        image = ours.normalized(x).squeeze(2)
        torch.testing.assert_close(ours(x), theirs(image), rtol=0, atol=1e-5)
        patches = theirs.forward_features(image)[:, 1:]
        torch.testing.assert_close(ours.forward_features(x).flatten(2).mT, patches, rtol=0, atol=1e-5)


def test_space_only_averages_class_tokens_before_the_norm():
    theirs, ours = image_network(), with_classes(TimeSformer("space", frames=3, **TINY))
    ours.load_state_dict(renamed(theirs.state_dict()))
    x = torch.rand(1, 3, 3, 32, 32)
    theirs.norm, norm = nn.Identity(), theirs.norm
    with torch.no_grad():
        frames = theirs.forward_features(ours.normalized(x)[0].transpose(0, 1))
        expected = theirs.head(norm(frames[:, 0].mean(0, keepdim=True)))
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)


def test_divided_attention_starts_as_an_image_network():
    """Without time (the last map zero, as initialised), a still clip's every frame is that image through ViT."""
    theirs, ours = image_network(), with_classes(TimeSformer(frames=3, **TINY))
    ours.load_state_dict(renamed(theirs.state_dict()), strict=False)
    for block in ours.blocks:
        nn.init.zeros_(block.temporal_fc.weight)
    image = torch.rand(2, 3, 1, 32, 32)
    nn.init.zeros_(ours.time_embed)
    with torch.no_grad():
        expected = theirs(ours.normalized(image).squeeze(2))
        torch.testing.assert_close(ours(image.expand(-1, -1, 3, -1, -1)), expected, rtol=0, atol=1e-5)


def test_divided_attention_stays_within_place_and_frame():
    torch.manual_seed(0)
    model = shaken(TimeSformer(frames=4, **TINY | {"depth": 1}))
    x = torch.rand(1, 3, 4, 32, 32)
    other = x.clone()
    other[:, :, 0, :16, :16] = 0
    with torch.no_grad():
        changed = (model.forward_features(x) - model.forward_features(other)).abs().amax(1)[0] > 1e-6
    # The place in all frames; then, through it, every place of every frame.
    assert changed.all()
    for block in model.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    with torch.no_grad():
        changed = (model.forward_features(x) - model.forward_features(other)).abs().amax(1)[0] > 1e-6
    assert changed[:, 0, 0].all() and changed.sum() == 4


@pytest.mark.parametrize("name", ["timesformer", "vivit factorised self-attention"])
def test_time_is_off_at_the_start(name):
    model = MODELS[name]().eval()
    if name == "timesformer":
        model.blocks = model.blocks[1:]
    x = torch.rand(1, 3, 4, 32, 32)
    other = x.clone()
    other[:, :, 2:] = 0
    with torch.no_grad():
        first, last = (model.forward_features(x) - model.forward_features(other)).abs().amax(1)[0][[0, -1]]
    assert first.max() < 1e-6 < last.max()


def test_space_only_sees_each_frame_alone_and_joint_all():
    x = torch.rand(1, 3, 4, 32, 32)
    other = x.clone()
    other[:, :, 3] = 0
    for attention, frames in ("space", 1), ("joint", 4):
        model = shaken(TimeSformer(attention, frames=4, **TINY))
        with torch.no_grad():
            changed = (model.forward_features(x) - model.forward_features(other)).abs().amax((0, 1, 3, 4)) > 1e-6
        assert changed.sum() == frames


def test_other_sizes_take_the_nearest_positions():
    model = shaken(TimeSformer(frames=4, **TINY))
    larger = TimeSformer(frames=8, **TINY | {"size": 64}).eval()
    weights = model.state_dict()
    places = weights["pos_embed"][:, 1:].unflatten(1, (2, 2))
    places = places.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
    weights["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], places], 1)
    weights["time_embed"] = weights["time_embed"].repeat_interleave(2, 1)
    larger.load_state_dict(weights)
    x = torch.rand(1, 3, 8, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), larger(x), rtol=0, atol=1e-5)


def test_positions_are_interpolated_over_the_grid():
    grid = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 3)
    assert resize_positions(grid, (4, 1, 1), (4, 1, 1)) is grid
    torch.testing.assert_close(resize_positions(grid, (4, 1, 1), (2, 1, 1))[0, :, 0], torch.tensor([0.5, 2.5]))


def test_tubelets_from_an_image_network():
    """A still clip is the image to an inflated filter; a central one looks at the second frame of two alone."""
    theirs = image_network()
    clip = torch.rand(2, 3, 2, 32, 32)
    for start, image in ("inflate", clip.mean(2)), ("central", clip[:, :, 1]):
        ours = ViViT(frames=2, **TINY).eval()
        ours.load_image_weights(theirs.state_dict(), start)
        tokens = ours.patch_embed(clip).flatten(1, 3)
        torch.testing.assert_close(tokens, theirs.patch_embed(image), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="inflate"):
        ours.load_image_weights(theirs.state_dict(), "middle")


@pytest.mark.parametrize("kind", ["joint", "encoder", "self"])
def test_vivit_starts_as_an_image_network(kind):
    """Every block sees of one pair of equal frames what ViT does of the frame."""
    theirs = image_network()
    for block in theirs.blocks:
        block.mlp.act = nn.GELU("tanh")
    ours = (FactorisedViViT(frames=2, **TINY) if kind == "encoder" else ViViT(kind, frames=2, **TINY)).eval()
    ours.load_image_weights(theirs.state_dict())
    if kind == "self":  # has no class token
        theirs.cls_token, theirs.pos_embed = None, nn.Parameter(theirs.pos_embed[:, 1:])
        theirs.num_prefix_tokens = 0
    image = torch.rand(2, 3, 1, 32, 32)
    with torch.no_grad():
        stages = ours.forward_stages(image.expand(-1, -1, 2, -1, -1))
        expected = theirs.forward_intermediates(ours.normalized(image).squeeze(2), intermediates_only=True)
    for i, patches in enumerate(expected):
        torch.testing.assert_close(stages[f"blocks.{i}"][:, :, 0], patches, rtol=0, atol=1e-5)


def test_image_weights_are_spread_over_time_and_size():
    theirs = image_network(64)
    for model in ViViT("dot", frames=4, **TINY), ViViT(frames=4, **TINY), FactorisedViViT(frames=4, **TINY):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_image_weights(theirs.state_dict())
        kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
        assert all(name.startswith("temporal.") for name in kept)
    with pytest.raises(ValueError, match="plain ViT"):
        model.load_image_weights(theirs.state_dict() | {"reg_token": torch.zeros(1)})


def test_dot_product_attention_by_hand():
    attention = shaken(DotProductAttention(8, 2))
    plain = Attention(8, 2)
    plain.load_state_dict(attention.state_dict())
    x = torch.rand(2, 3, 5, 8)
    query, key, value = plain.project(x)
    space = (query[..., :4] @ key[..., :4].mT / 2).softmax(-1) @ value[..., :4]
    query, key, value = (part.transpose(1, 2)[..., 4:] for part in (query, key, value))
    time = ((query @ key.mT / 2).softmax(-1) @ value).transpose(1, 2)
    torch.testing.assert_close(attention(x), plain.proj(torch.cat([space, time], -1)), rtol=0, atol=1e-5)


def test_factorised_encoder_gives_a_state_for_each_step():
    model = shaken(MODELS["vivit factorised encoder"]())
    stages = model.forward_stages(torch.rand(2, 3, 4, 32, 32))
    shapes = {name: tuple(value.shape) for name, value in stages.items()}
    apart, together = (2, 48, 2, 2, 2), (2, 48, 2, 1, 1)
    assert shapes == {"blocks.0": apart, "blocks.1": apart, "temporal.0": together, "temporal.1": together}
    assert model.feature_info.stride == (2, 32, 32)


@pytest.mark.parametrize("frames", [1, 4, 9])
def test_window_attention_by_hand(frames):
    attention = shaken(WindowAttention(8, 2, 4, 0.1))
    x = torch.rand(2, 1 + frames, 8)

    def dense(query, key, value, mask):
        query, key, value = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in (query, key, value))
        weights = (query @ key.mT / 2).masked_fill(~mask, -torch.inf).softmax(-1)
        return (weights @ value).transpose(1, 2).flatten(2)

    place = torch.arange(1 + frames)
    mask = ((place[:, None] - place).abs() <= 2) & (place > 0) | (place == 0)
    expected = dense(attention.query(x), attention.key(x), attention.value(x), mask)
    whole = torch.ones_like(mask)
    first = dense(attention.query_global(x), attention.key_global(x), attention.value_global(x), whole)
    expected = torch.cat([first[:, :1], expected[:, 1:]], 1)
    torch.testing.assert_close(attention(x), attention.dense(expected), rtol=0, atol=1e-5)


def test_vtn_runs_timms_network_on_every_frame():
    theirs, ours = image_network(), MODELS["vtn"]().eval()
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    assert not ours.load_state_dict(weights, strict=False).unexpected_keys
    seen = []
    embed = ours.temporal.embed
    ours.temporal.embed = lambda states: seen.append(states) or embed(states)
    x = torch.rand(2, 3, 5, 32, 32)
    with torch.no_grad():
        assert ours.forward_features(x).shape == (2, 48, 5, 1, 1)
        frames = theirs.forward_features(ours.normalized(x).transpose(1, 2).flatten(0, 1))[:, 0]
    torch.testing.assert_close(seen[0].flatten(0, 1), frames, rtol=0, atol=1e-5)


def test_vtn_positions_count_frames_of_the_video_and_wrap():
    near, far = (VTN(**TINY, frame_stride=stride).eval() for stride in (1, 285))
    states = torch.rand(1, 3, 48)
    far.load_state_dict(near.state_dict())
    table = near.temporal.position_embeddings.weight
    with torch.no_grad():
        nn.init.normal_(table)
        far.temporal.position_embeddings.weight.copy_(table)
        kinds = near.temporal.token_type_embeddings.weight
        for model, places in (near, [0, 1, 2]), (far, [0, 285, 284]):
            expected = model.temporal.embedding_norm(states + table[places] + kinds[0])
            torch.testing.assert_close(model.temporal.embed(states)[:, 1:], expected)


def test_vtn_costs_what_is_printed_but_for_attention_itself():
    """4218 of the paper (16.848 a frame) count linear maps and the convolution alone."""
    with torch.device("meta"):
        model, clip = create_model("vtn_b", num_classes=400).eval(), torch.empty(1, 3, 250, 224, 224)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    counts = {str(operator): count / 2e9 for operator, count in counter.get_flop_counts()["Global"].items()}
    attention = counts.pop("aten.bmm")
    assert sum(counts.values()) == pytest.approx(4218, rel=5e-3)
    assert attention == pytest.approx(250 * 12 * 2 * 197**2 * 768 / 1e9, rel=5e-3)


def test_videomae_positions_are_fixed():
    table = sinusoids(10, 8)[0]
    assert table[3, 0] == pytest.approx(torch.tensor(3.0).sin().item())
    assert table[3, 5] == pytest.approx(torch.tensor(3 / 10000**0.5).cos().item())
    model = MODELS["videomae"]()
    assert "positions" not in model.state_dict()
    assert not any("cls_token" in name for name in model.state_dict())


def test_videomae_normalizes_after_the_mean():
    model = with_classes(shaken(MODELS["videomae"]()))
    features = torch.randn(2, 48, 2, 2, 2)
    expected = model.classifier(model.fc_norm(features.mean((2, 3, 4))))
    torch.testing.assert_close(model.forward_head(features), expected)


def test_vjepa2_turns_pairs_by_where_they_are():
    """Of heads of 16 channels: four for each axis, and four that stay."""
    angles = rotations((2, 3, 4), 4)
    assert angles.shape == (24, 3, 2)
    place = angles[1 * 12 + 2 * 4 + 1]  # the second frame, the last row, the second column
    torch.testing.assert_close(place, torch.tensor([[1, 0.01], [15, 0.15], [5, 0.05]]))
    x = torch.zeros(24, 16)
    x[:, 0] = x[:, 5] = x[:, 14] = 1
    found = rotated(x, angles)[21]
    expected = torch.zeros(16)
    expected[0], expected[1] = torch.tensor(1.0).cos(), torch.tensor(1.0).sin()
    expected[4], expected[5] = -torch.tensor(15.0).sin(), torch.tensor(15.0).cos()
    expected[14] = 1
    torch.testing.assert_close(found, expected)


def test_vjepa2_gives_the_numbers_of_its_authors_code():
    """Of a network whose parameters are sines: their code gave these, of the same clip."""
    model = MODELS["vjepa2"]().eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_((torch.arange(parameter.numel()) * 0.37 + number).sin().view_as(parameter) * 0.2)
        clip = (torch.arange(3 * 4 * 32 * 48).view(1, 3, 4, 32, 48) * 0.11).sin() / 2 + 0.5
        found = model.forward_features(clip)
    assert found.shape == (1, 48, 2, 2, 3)
    expected = torch.tensor(AUTHORS_VJEPA2)
    torch.testing.assert_close(found[0, :4, :, 1, 2].flatten(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("project_values", [True, False])
def test_trajectory_attention_by_hand(project_values):
    """Patch by patch, one head, as the paper's equations say."""
    torch.manual_seed(0)
    frames, places, dim = 3, 4, 8
    attention = shaken(TrajectoryAttention(dim, 1, project_values))
    x = torch.rand(1, 1 + frames * places, dim)
    with torch.no_grad():
        query, key, value = (part[0] for part in attention.project(x))
        rows = [(query[0] @ key.T / dim**0.5).softmax(-1) @ value]
        key, value = key[1:].unflatten(0, (frames, places)), value[1:].unflatten(0, (frames, places))
        for i, wanted in enumerate(query[1:]):
            trajectory = torch.stack([(wanted @ key[t].T / dim**0.5).softmax(-1) @ value[t] for t in range(frames)])
            projected = attention.proj_kv(trajectory)
            keys, values = projected.chunk(2, -1) if project_values else (projected, trajectory)
            along = (attention.proj_q(trajectory[i // places]) @ keys.T / dim**0.5).softmax(-1)
            rows.append(along @ values)
        torch.testing.assert_close(attention(x, frames)[0], attention.proj(torch.stack(rows)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", [lambda: TimeSformer("some"), lambda: ViViT("some")])
def test_an_unknown_attention_is_refused(build):
    with torch.device("meta"), pytest.raises(ValueError, match="'joint'"):
        build()


@models
def test_classifier_and_channels(name):
    model = MODELS[name](in_chans=2).eval()
    x = torch.rand(2, 2, 4, 32, 32)
    with torch.no_grad():
        assert model(x).shape == (2, model.num_features)
        model.reset_classifier(7)
        assert model(x).shape == (2, 7)
        model.reset_classifier(None)
        assert model(x).shape == (2, 48)


@models
def test_other_sizes_than_learned(name):
    model = MODELS[name]().eval()
    with torch.no_grad():
        features = model.forward_features(torch.rand(1, 3, 6, 48, 64))
    whole = features.shape[3:] == (1, 1)
    assert features.shape[2:] == (6 // model.feature_info.stride[0], *((1, 1) if whole else (3, 4)))


@models
def test_checkpointing_gives_the_same_gradients(name):
    torch.manual_seed(0)
    model = with_classes(shaken(MODELS[name]()))
    x = torch.rand(1, 3, 4, 32, 32)
    gradients = []
    for enable in False, True:
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(gradients[0], gradients[1])


@models
def test_a_step_of_training_lowers_the_loss(name):
    torch.manual_seed(0)
    model = MODELS[name](drop_path=0.1)
    model.reset_classifier(3)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    x, y = torch.rand(4, 3, 4, 32, 32), torch.tensor([0, 1, 2, 0])

    def loss():
        return nn.functional.cross_entropy(model(x), y)

    model.eval()
    before = loss().item()
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()
    assert loss().item() < before
    unused = {k for k, p in model.named_parameters() if p.grad is None}
    assert not unused
