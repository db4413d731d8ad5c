import cv2
import numpy as np
import pytest
import torch
from scenes import FLOW_MEDIA

from avlearn.errors import AvlearnError
from avlearn.media.flow_file import read_flow, write_flow
from avlearn.signal.flow import warp


@pytest.fixture
def flow() -> np.ndarray:
    flow = np.random.default_rng(0).uniform(-40, 40, (2, 5, 7)).astype(np.float32)
    flow[:, 1, 2] = np.nan
    return flow


def test_a_flo_is_bit_for_bit(flow, tmp_path):
    write_flow(tmp_path / "a.flo", flow)
    data = (tmp_path / "a.flo").read_bytes()
    assert data[:4] == b"PIEH" and len(data) == 12 + 8 * 35
    assert np.frombuffer(data, "<f4", 1)[0] == 202021.25 and np.frombuffer(data, "<i4", 2, 4).tolist() == [7, 5]
    assert np.frombuffer(data, "<f4", 2, 12).tolist() == flow[:, 0, 0].tolist()
    assert np.array_equal(read_flow(tmp_path / "a.flo"), flow, equal_nan=True)


def test_a_png_is_in_64ths(flow, tmp_path):
    write_flow(tmp_path / "a.png", flow)
    again = read_flow(tmp_path / "a.png")
    assert np.nanmax(np.abs(again - flow)) <= 1 / 128 + 1e-6
    assert np.array_equal(np.isnan(again), np.isnan(flow))


def test_published_files():
    if not FLOW_MEDIA.is_dir():
        pytest.skip(f"needs pairs with true flow, which are not ours to hand on, in {FLOW_MEDIA}")
    kitti = read_flow(FLOW_MEDIA / "OpticalFlowToolkit_KITTI_flow_gt.png")
    chairs = read_flow(FLOW_MEDIA / "spynet_00001_flow.flo")
    assert kitti.shape[1] > 300 and 0.1 < np.isfinite(kitti[0]).mean() < 0.5  # of a laser scanner
    assert chairs.shape == (2, 384, 512) and np.isfinite(chairs).all() and np.abs(chairs).max() < 100
    for flow, *names in (
        (kitti, "OpticalFlowToolkit_KITTI_frame1.png", "OpticalFlowToolkit_KITTI_frame2.png"),
        (chairs, "spynet_00001_img1.ppm", "spynet_00001_img2.ppm"),
    ):
        first, second = (torch.from_numpy(cv2.imread(str(FLOW_MEDIA / name), 0)).float()[None, None] for name in names)
        known = np.isfinite(flow[0])
        moved = warp(second, torch.from_numpy(np.nan_to_num(flow))[None])
        still, explained = ((other - first).abs()[0, 0].numpy()[known].mean() for other in (second, moved))
        assert explained < 0.6 * still  # x and y, and their signs, are as in the file


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.flo", b"hello", "is no file of flow"),
        ("a.flo", b"PIEH", "is damaged"),
        ("a.flo", b"PIEH" + np.array([1 << 30, 1 << 30], "<i4").tobytes(), "is damaged"),
        ("a.flo", b"PIEH" + np.array([4, 4], "<i4").tobytes() + bytes(10), "ends early"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "is no flow"),
    ],
)
def test_damaged_files_are_told(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AvlearnError, match=said):
        read_flow(tmp_path / name)
    with pytest.raises(AvlearnError, match="cannot be read"):
        read_flow(tmp_path / "none.flo")


def test_what_cannot_be_written_is_told(flow, tmp_path):
    for name, values, said in (
        ("a.txt", flow, "is written to"),
        ("a.png", flow * 100, "write a .flo"),
        ("a.flo", flow[0], "a flow is"),
        ("none/a.flo", flow, "there is no folder"),
    ):
        with pytest.raises(AvlearnError, match=said):
            write_flow(tmp_path / name, values)
    assert not list(tmp_path.iterdir())
