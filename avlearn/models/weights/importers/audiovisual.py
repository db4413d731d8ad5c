"""Names of weights that learned from video and audio together, without labels; most files hold a network of each."""

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, renamed


def _gdt_video(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^video_network\.base\.", "")])


def _gdt_audio(tensors: Tensors) -> Tensors:
    """An image network of torchvision."""
    return renamed(
        tensors,
        [
            (r"^audio_network\.base\.conv1\.", "stem.0."),
            (r"^audio_network\.base\.bn1\.", "stem.1."),
            (r"^audio_network\.base\.layer(\d)\.", lambda m: f"layers.{int(m[1]) - 1}."),
        ],
    )


# Where the layers of a block are in ours: convolutions and norms over space (spt) and time (tmp).
_AVID = {"spt_conv1": "conv1.0.0", "spt_bn1": "conv1.0.1", "tmp_conv1": "conv1.0.3", "tmp_bn1": "conv1.1"}
_AVID |= {"spt_conv2": "conv2.0.0", "spt_bn2": "conv2.0.1", "tmp_conv2": "conv2.0.3", "out_bn": "relu.0"}
_AVID |= {"res_conv": "downsample.0"}


def _avid(tensors: Tensors) -> Tensors:
    """Both networks: their names differ in ours, too."""
    return renamed(
        tensors,
        [
            (r"^audio_model\.", ""),
            (r"^video_model\.conv1\.", "stem."),
            (
                r"^video_model\.conv([2-5])x\.(\d+)\.(\w+)\.",
                lambda m: f"layer{int(m[1]) - 1}.{m[2]}.{_AVID.get(m[3], m[3])}.",
            ),
        ],
    )


def _vmz(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^fc\.", "classifier.")])


_GREY = (0.45,) * 3, (0.225,) * 3

LAYOUTS = (
    # GDT (Patrick et al., ICCV 2021) and SeLaVi (Asano et al., NeurIPS 2020).
    WeightLayout("gdt audio", r"^audio_network\.base\.", _gdt_audio, {"temporal_stride": 32}, encoders="resnet*"),
    WeightLayout("gdt video", r"^video_network\.base\.", _gdt_video, {}, *_GREY),
    WeightLayout("avid-cma", r"^(video|audio)_model\.conv1\.", _avid),
    # XDC (Alwassel et al., NeurIPS 2020), in VMZ's PyTorch: names are torchvision's, and its classifier may be missing.
    WeightLayout(
        "vmz r2plus1d",
        r"^layer2\.0\.conv2\.0\.0\.weight$",
        _vmz,
        {"mid_width": "per-conv", "eps": 1e-3},
        shape=(288, 128, 1, 3, 3),
    ),
)
