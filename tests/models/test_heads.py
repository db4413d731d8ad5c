"""Readouts over larger frames, over time, and of boxes."""

import pytest
import torch

from avlearn.models import create_model
from avlearn.models.heads import RoIHead, fully_convolutional, per_frame


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("slowfast_tiny", num_classes=5).eval()


def test_at_the_size_of_the_training_the_window_sees_all(model):
    x = torch.rand(2, 3, 16, 64, 64)
    with torch.inference_mode():
        features = model.forward_features(x)
        found = fully_convolutional(model, features, features.shape[2:])
        assert torch.allclose(found, model(x).softmax(-1), atol=1e-6)


def test_larger_frames_are_the_mean_of_their_windows(model):
    with torch.inference_mode():
        features = model.forward_features(torch.rand(1, 3, 16, 72, 80))  # 8 x 9 x 10 cells
        windows = [features[..., y : y + 8, x : x + 8] for y in range(2) for x in range(3)]
        expected = torch.stack([model.forward_head(window).softmax(-1) for window in windows]).mean(0)
        assert torch.allclose(fully_convolutional(model, features, (8, 8, 8)), expected, atol=1e-6)


def test_scores_over_time_average_to_those_of_the_clip(model):
    x = torch.rand(2, 3, 16, 64, 64)
    with torch.inference_mode():
        scores = per_frame(model, model.forward_features(x))
        assert scores.shape == (2, 8, 5)
        assert torch.allclose(scores.mean(1), model(x), atol=1e-5)


def test_a_box_answers_for_what_lies_in_it():
    features = torch.zeros(2, 4, 3, 8, 8)
    features[1, 2, :, 2:4, 5:7] = 1  # pixels 16 to 32 down, 40 to 56 across, at a stride of 8
    head = RoIHead(4, 4, 8).eval()
    torch.nn.init.eye_(head.classifier.weight)
    torch.nn.init.zeros_(head.classifier.bias)
    boxes = torch.tensor([[1, 40, 16, 56, 32], [1, 0, 40, 30, 64], [0, 40, 16, 56, 32]], dtype=torch.float32)
    scores = head(features, boxes)
    assert scores[0].tolist() == pytest.approx([0, 0, 1, 0], abs=1e-6)
    assert scores[1:].abs().max() == 0


def test_weights_of_caffe2_see_half_a_cell_further():
    ramp = torch.arange(8.0).expand(1, 1, 1, 8, 8).contiguous()
    box = torch.tensor([[0, 16, 16, 32, 32]], dtype=torch.float32)
    heads = [RoIHead(1, 1, 8, aligned=aligned).eval() for aligned in (True, False)]
    for head in heads:
        torch.nn.init.ones_(head.classifier.weight)
        torch.nn.init.zeros_(head.classifier.bias)
    aligned, shifted = (float(head(ramp, box)) for head in heads)
    assert shifted - aligned == pytest.approx(0.5, abs=1e-5)


def test_detectors_of_the_released_shape_score_boxes():
    torch.manual_seed(0)
    model = create_model("slowfast_r50_8x8", num_classes=80, output_stride=16).eval()
    assert model.feature_info.stride == (1, 16, 16)
    head = RoIHead(model.num_features, 80, model.feature_info.stride[2], aligned=False).eval()
    head.classifier = model.classifier
    boxes = torch.tensor([[0, 0, 0, 63, 63], [1, 5, 9, 40, 50], [1, 0, 0, 63, 63]], dtype=torch.float32)
    with torch.inference_mode():
        features = model.forward_features(torch.rand(2, 3, 8, 64, 64))
        assert features.shape == (2, 2304, 8, 4, 4)
        assert head(features, boxes).shape == (3, 80)
