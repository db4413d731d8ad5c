"""Networks of optical flow, alone and beside frames: what they see, where they meet, and that they learn motion."""

import pytest
import torch
from families import OF_FLOW
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models import create_model, list_models, model_spec
from avlearn.models.encoder import Encoder
from avlearn.models.inputs import encoder_input, flow_input, stacked
from avlearn.models.video.flow_stack import load_rgb_weights
from avlearn.models.video.frame_vgg import CNN_M, FrameVGG
from avlearn.models.video.tsn import stacked_resnet
from avlearn.models.video.two_stream import ScoreFusion, TwoStream
from avlearn.models.video.two_stream_fusion import FusedStreams, STResNet
from avlearn.signal.flow import stack_flow

SMALL = ((1, 1, 1, 1), 8)


def moving(batch: int, frames: int, steps: Tensor, size: int = 32) -> Tensor:
    """Smooth textures ``[B, 3, T, H, W]`` that go so many pixels along x and y, ``[B, 2]``, from frame to frame."""
    texture = F.avg_pool2d(F.pad(torch.rand(batch, 3, size, size), (2, 2, 2, 2), "circular"), 5, 1)
    texture = (texture - texture.mean()) / texture.std() * 0.15 + 0.5
    return torch.stack(
        [
            torch.stack([torch.roll(image, (int(y) * t, int(x) * t), (1, 2)) for t in range(frames)], 1)
            for image, (x, y) in zip(texture.clamp(0, 1), steps, strict=True)
        ]
    )


def randomized(model: Encoder) -> Encoder:
    """For inference, with statistics of norms that are not those of a beginning."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", [name for name in list_models() if model_spec(name).kind == "video"])
def test_an_encoder_says_what_it_takes_and_so_does_its_spec(name):
    with torch.device("meta"):
        model = create_model(name)
        video = torch.empty(1, 3, 2, 16, 16)
    spec = model_spec(name)
    assert (model.takes, model.in_chans) == (spec.takes, spec.shape[0])
    assert encoder_input(model, video).shape == (1, spec.shape[0], 2, 16, 16)


@pytest.mark.parametrize("method", ["lucas_kanade", "dis"])
def test_flow_is_of_pixels_along_x_and_y_to_the_next_frame(method):
    torch.manual_seed(0)
    video = moving(2, 4, torch.tensor([[2, 0], [0, -1]]), 64)
    flow = flow_input(video, method)
    assert flow.shape == (2, 2, 4, 64, 64)
    middle = (flow[..., 16:48, 16:48] - 0.5) * 40
    torch.testing.assert_close(middle.mean((2, 3, 4)), torch.tensor([[2.0, 0.0], [0.0, -1.0]]), atol=0.15, rtol=0)
    assert torch.equal(flow[:, :, 3], flow[:, :, 2])
    assert torch.equal(flow_input(video[:, :, :1]), torch.full((2, 2, 1, 64, 64), 0.5))


def test_what_an_encoder_takes_is_made_of_frames():
    torch.manual_seed(0)
    video = moving(1, 6, torch.tensor([[1, 1]]))
    flow = flow_input(video)
    rgb, one, both = stacked_resnet(1, 3, *SMALL), stacked_resnet(2, 2, *SMALL), OF_FLOW["two streams"].build()
    assert encoder_input(rgb, video) is video
    assert torch.equal(encoder_input(one, video), flow)
    assert torch.equal(encoder_input(both, video), torch.cat([video, flow], 1))
    given = encoder_input(stacked_resnet(1, 6, *SMALL), video)
    assert given.shape == (1, 6, 6, 32, 32)
    assert torch.equal(given[0, :, :4].transpose(0, 1), stack_flow(flow[0].transpose(0, 1), 3))
    one.flow_method = "dis"
    assert torch.equal(encoder_input(one, video), flow_input(video, "dis"))
    assert torch.equal(encoder_input(one, video, "lucas_kanade"), flow)


def test_flow_that_cannot_be_made_is_refused():
    model = stacked_resnet(2, 2, *SMALL)
    with pytest.raises(ModelError, match="flow is by lucas_kanade, tv_l1, farneback, dis, not by raft"):
        encoder_input(model, torch.rand(1, 3, 2, 32, 32), "raft")
    with pytest.raises(ModelError, match=r"flow is made of \[B, 3, T, H, W\], not of \[1, 2, 2, 32, 32\]"):
        encoder_input(model, torch.rand(1, 2, 2, 32, 32))
    with pytest.raises(ModelError, match="flow_method is lucas_kanade, tv_l1, farneback, dis, not raft"):
        create_model("temporal_r50", flow_method="raft")


def test_the_method_of_flow_is_remembered_with_the_encoder():
    with torch.device("meta"):
        model = create_model("two_stream_i3d", flow_method="tv_l1")
    assert model.flow_method == "tv_l1"
    assert model.config["options"] == {"flow_method": "tv_l1"}


def test_a_stack_of_flows_is_seen_as_by_the_published_convolution_of_images():
    """Of 2 L channels: x, y, x, y, ... of the L frames."""
    model, flow = stacked_resnet(5, 2, *SMALL).eval(), torch.rand(2, 2, 10, 32, 32)
    conv = model.stem[0]
    flat = conv.weight.transpose(1, 2).flatten(1, 2)  # [D, 2 L, 7, 7]
    stacks = stacked(model.normalized(flow), 5)[:, :, ::5]
    wanted = torch.stack([F.conv2d(stacks[:, :, k], flat, None, 2, 3) for k in range(2)], 2)
    torch.testing.assert_close(conv(model.normalized(flow)), wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_colours_are_carried_over_to_flow():
    torch.manual_seed(0)
    spatial, temporal = stacked_resnet(1, 3, *SMALL), stacked_resnet(4, 2, *SMALL)
    randomized(spatial)
    temporal.reset_classifier(3)
    own = temporal.classifier.weight.clone()
    load_rgb_weights(temporal, spatial)
    first = temporal.stem[0].weight
    assert first.shape == (8, 2, 4, 7, 7)
    assert torch.equal(first, spatial.stem[0].weight.mean(1, keepdim=True).expand_as(first))
    assert torch.equal(temporal.layer4[0].conv2[0].weight, spatial.layer4[0].conv2[0].weight)
    assert torch.equal(temporal.stem[1].running_var, spatial.stem[1].running_var)
    assert torch.equal(temporal.classifier.weight, own)
    for other in (stacked_resnet(1, 3, (1, 1, 1, 2), 8), stacked_resnet(1, 3, (1, 1, 1, 1), 16), temporal):
        with pytest.raises(ModelError, match="cannot begin from that of another plan"):
            load_rgb_weights(stacked_resnet(4, 2, (1, 1, 1, 2), 8) if other is temporal else temporal, other)


def test_the_mean_motion_is_subtracted_where_the_paper_does():
    model = FrameVGG(CNN_M.narrowed(16), 4, 2).eval()
    flow = torch.rand(1, 2, 4, 32, 32) * 0.5
    with torch.no_grad():
        torch.testing.assert_close(model(flow + 0.3), model(flow), rtol=1e-3, atol=1e-4)


def test_scores_are_fused_by_each_rule():
    torch.manual_seed(0)
    spatial, temporal = torch.randn(2, 4, 3)
    mean = (spatial.softmax(1) + 1.5 * temporal.softmax(1)) / 2.5
    torch.testing.assert_close(ScoreFusion("average", 3, 1.5)(spatial, temporal).softmax(1), mean)
    torch.testing.assert_close(ScoreFusion("sum", 3, 1.5)(spatial, temporal), spatial + 1.5 * temporal)
    svm = ScoreFusion("svm", 3)
    streams = [p / p.square().sum(1, keepdim=True).sqrt() for p in (spatial.softmax(1), temporal.softmax(1))]
    torch.testing.assert_close(svm(spatial, temporal), svm.linear(torch.cat(streams, 1)))


def test_each_stream_sees_its_part_and_is_classified_alone():
    model = randomized(TwoStream(stacked_resnet(1, 3, *SMALL), stacked_resnet(4, 2, *SMALL), "sum", 2.0))
    model.reset_classifier(3)
    model.eval()
    x = torch.rand(2, 5, 8, 32, 32)
    with torch.no_grad():
        own, other = model.spatial(x[:, :3, 2::4]), model.temporal(x[:, 3:])
        torch.testing.assert_close(model(x), own + 2 * other)
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), own + 2 * other)


def test_streams_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="streams see 3 and 2 channels, not 3 and 3"):
        TwoStream(stacked_resnet(1, 3, *SMALL), stacked_resnet(1, 3, *SMALL))
    with pytest.raises(ModelError, match=r"steps of the streams, \(4, 32, 32\) and \(1, 32, 32\)"):
        TwoStream(stacked_resnet(4, 3, *SMALL), stacked_resnet(1, 2, *SMALL))
    streams = stacked_resnet(1, 3, *SMALL), stacked_resnet(4, 2, *SMALL)
    with pytest.raises(ValueError, match="fusion is average, sum or svm, not product"):
        TwoStream(*streams, "product")
    with pytest.raises(ValueError, match="fusion is sum, max or conv, not product"):
        FusedStreams(*streams, "product")
    with pytest.raises(ModelError, match="unexpected keyword argument 'in_chans'"):
        create_model("two_stream", temporal="slowfast_tiny")


@pytest.mark.parametrize("fusion", ["sum", "max", "conv"])
def test_last_maps_are_fused_into_the_spatial_stream(fusion):
    torch.manual_seed(0)
    model = randomized(FusedStreams(stacked_resnet(1, 3, *SMALL), stacked_resnet(4, 2, *SMALL), fusion))
    x = torch.rand(1, 5, 12, 64, 64)
    with torch.no_grad():
        own, other = (model.spatial.forward_features(x[:, :3, 2::4]), model.temporal.forward_features(x[:, 3:]))
        fused, motion = model.forward_features(x).chunk(2, 1)
    assert torch.equal(motion, other)
    if fusion == "conv":  # it begins as a sum that is blurred
        line = torch.tensor([0.6065307, 1.0, 0.6065307])
        blur = (line[:, None, None] * line[:, None] * line)[None, None] / line.sum() ** 3
        mixed = 0.25 * own + 0.75 * other
        wanted = F.conv3d(mixed.transpose(0, 1), blur, padding=1).transpose(0, 1)
    else:
        wanted = own + other if fusion == "sum" else torch.maximum(own, other)
    torch.testing.assert_close(fused, wanted, rtol=1e-4, atol=1e-5)


def test_before_they_are_classified_there_is_a_maximum_over_five_steps():
    model = FusedStreams(stacked_resnet(1, 3, *SMALL), stacked_resnet(4, 2, *SMALL), "sum").eval()
    features = torch.rand(1, 4, 7, 3, 2)
    wanted = torch.stack([features[:, :, :5].amax(2), features[:, :, 2:].amax(2)], 2)
    assert torch.equal(model.pooled(features), wanted)
    assert torch.equal(model.pooled(features[:, :, :3]), features[:, :, :3].amax(2, keepdim=True))


def test_motion_enters_the_second_residual_unit_of_appearance():
    """By hand: x' = f(f(x) + F(x + f(m))), where x is not yet rectified."""
    torch.manual_seed(0)
    model = randomized(STResNet(4, (2, 2, 2, 2), 8))
    x = torch.rand(2, 5, 12, 64, 64)
    with torch.no_grad():
        appearance = model.spatial.stem(model.spatial.prepared(x[:, :3, 2::4]))
        motion = model.temporal.stem(model.temporal.prepared(x[:, 3:]))
        for group in range(1, 5):
            (a1, a2), (m1, m2) = (getattr(stream, f"layer{group}") for stream in (model.spatial, model.temporal))
            before = a1.conv3(a1.conv2(a1.conv1(appearance))) + a1.downsample(appearance)
            motion = m1(motion)
            appearance = F.relu(before.relu() + a2.conv3(a2.conv2(a2.conv1(before + motion))))
            motion = m2(motion)
        torch.testing.assert_close(model.forward_features(x), torch.cat([appearance, motion], 1), rtol=1e-4, atol=1e-5)
    assert model.spatial.layer2[1].conv1[0].kernel_size == model.temporal.layer2[1].conv3[0].kernel_size == (3, 1, 1)
    assert model.spatial.layer2[0].conv1[0].kernel_size == (1, 1, 1)


def test_motion_reaches_appearance_and_appearance_never_motion():
    model = STResNet(4, (2, 2, 2, 2), 8).eval()
    x = torch.rand(1, 5, 8, 32, 32, requires_grad=True)
    appearance, motion = model.forward_features(x).chunk(2, 1)
    (of_appearance,) = torch.autograd.grad(appearance.sum(), x, retain_graph=True)
    (of_motion,) = torch.autograd.grad(motion.sum(), x)
    assert of_appearance[:, 3:].abs().sum() > 0 and of_appearance[:, :3].abs().sum() > 0
    assert of_motion[:, 3:].abs().sum() > 0 and of_motion[:, :3].abs().sum() == 0


@pytest.fixture(scope="module")
def directions() -> tuple[Tensor, Tensor]:
    """Textures ``[N, 5, 8, 32, 32]``, with their flow, that all go one of four ways ``[N]``: no frame tells which."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(48)
    steps = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]])[labels] * 2
    video = moving(len(labels), 8, steps)
    # The texture alone turns over a border, so a moving disc before a still ground is what the mean does not undo.
    ground, (y, x) = (
        moving(len(labels), 1, torch.zeros(len(labels), 2)),
        torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"),
    )
    inside = ((y - 16) ** 2 + (x - 16) ** 2 < 100).float()
    video = inside * video + (1 - inside) * ground
    return torch.cat([video, flow_input(video)], 1), labels


def learned(model: Encoder, x: Tensor, labels: Tensor) -> float:
    """Accuracy on the last third of the clips, after some steps on the others."""
    optimizer = torch.optim.AdamW(model.parameters(), 0.003)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, 40)
    model.train()
    for step in range(40):
        batch = torch.arange(step % 4 * 32, step % 4 * 32 + 32)
        loss = F.cross_entropy(model(x[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        return float((model.eval()(x[128:]).argmax(1) == labels[128:]).float().mean())


@pytest.mark.parametrize("name", OF_FLOW)
def test_it_learns_directions_of_motion(name, directions):
    model, (x, labels) = OF_FLOW[name].classifier(4), directions
    x = x[:, 3:] if model.in_chans == 2 else x
    for stream in model.children():
        if isinstance(stream, Encoder):
            stream.dropout.p = 0.0
    found = learned(model, x, labels)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert found > 0.5, f"{found:.0%} of held-out clips; chance 25%"


def test_frames_alone_do_not_tell_the_direction(directions):
    """What the networks of motion learn is in no single frame."""
    x, labels = directions
    model = stacked_resnet(1, 3, *SMALL)
    model.reset_classifier(4)
    found = learned(model, x[:, :3], labels)
    assert found < 0.5, f"{found:.0%} of held-out clips; chance 25%"
