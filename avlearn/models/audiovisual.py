"""The two towers with the heads that stand on them: a separator and classifiers."""

from torch import Tensor, nn

from avlearn.config import ModelConfig
from avlearn.errors import ModelError
from avlearn.models.calibration import Calibrations
from avlearn.models.in_distribution import LABELLED, InDistribution
from avlearn.models.two_tower import TwoTower
from avlearn.models.unet import MaskUNet
from avlearn.signal import Stft


class AudioVisual(TwoTower):
    """Two towers, the separator and the classifiers where ``config`` has them.

    Attributes:
        separator: None where there is none.
        classifiers: by ``video``, ``audio`` and ``both``, of mean, std and maximum of the features; empty where the
            model has no labels.
        calibrations: what was measured of the model; it lies beside the weights.
        in_distribution: statistics of ``video`` and ``audio`` like those that it was trained on, or calibrated on,
            where they were measured; they lie beside the weights.

    Raises:
        ModelError: as `TwoTower`, or the separator cannot be made.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.calibrations = Calibrations()
        self.in_distribution: dict[str, InDistribution] = {}
        self.separator: MaskUNet | None = None
        if config.separator:
            try:
                bin_hz = Stft(config.sample_rate, config.separator.window, config.separator.hop).bin_hz
            except ValueError as error:
                raise ModelError(f"model.separator: {error}") from error
            self.separator = MaskUNet(self.video.num_features, config.separator, config.sample_rate / 2, bin_hz)
        self.classifiers = nn.ModuleDict()
        if config.labels:
            sizes = {"video": 3 * self.video.num_features, "audio": 3 * self.audio.num_features}
            sizes["both"] = sizes["video"] + sizes["audio"]
            for name, size in sizes.items():
                self.classifiers[name] = nn.Linear(size, len(config.labels))

    def require_separator(self) -> MaskUNet:
        """The separator. Raises ModelError where there is none."""
        if self.separator is None:
            raise ModelError("this model has no separator: train one with a recipe of the task 'separate'")
        return self.separator

    def linear_classifiers(self) -> dict[str, nn.Linear]:
        """The classifiers, as what they are."""
        return {kind: layer for kind, layer in self.classifiers.items() if isinstance(layer, nn.Linear)}

    def with_heads(self, **changes: object) -> "AudioVisual":
        """A model of these towers whose configuration has such changes of its heads; other heads stay.

        Args:
            changes: fields of the configuration, ``separator`` and ``labels`` among them; what they name is untrained.
        """
        model = AudioVisual(self.config.model_copy(update=changes)).to(self.device)
        heads = {"separator": "separator.", "labels": "classifiers."}
        new = tuple(prefix for key, prefix in heads.items() if key in changes)
        model.load_state_dict({k: v for k, v in self.state_dict().items() if not k.startswith(new)}, strict=False)
        # Those of what the classifiers know are of classifiers that are gone where these are new.
        model.in_distribution = {
            kind: known
            for kind, known in self.in_distribution.items()
            if not (kind.startswith(LABELLED) and "labels" in changes)
        }
        return model

    @staticmethod
    def renamed(name: str) -> str:
        """Today's name of a tensor that a file of an earlier version may name otherwise."""
        former = "separator.rivals."
        return f"separator.other_sources.{name.removeprefix(former)}" if name.startswith(former) else name

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            # Checkpoints of before have the in-distribution statistics, untrained, among the weights.
            if key.startswith(f"{prefix}familiar."):
                del state_dict[key]
            else:
                state_dict[prefix + self.renamed(key.removeprefix(prefix))] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *rest)
