"""`explain`: a network's filters, what its classes would most like to see and hear, and where it looks in a file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avlearn.apply.explain.file import best_classes, check_kinds
from avlearn.apply.explain.network import ExplainedNetwork
from avlearn.apply.explain.page import write_page
from avlearn.apply.explain.parts import Progress, show_classes, show_filters, show_maps
from avlearn.errors import OutputError
from avlearn.files import check_folder, printable
from avlearn.media.source import Source

PAGE = "explained.html"
WRITTEN = (PAGE, "filters_*", "class_*", "gradcam_*")  # patterns of the names of what is written
_DRAWN, _BEST = 4, 3  # classes that are shown where none is named: without a file, and of one


@dataclass(frozen=True)
class ExplainResult:
    """What was shown of a network.

    Attributes:
        network: its encoders, in words.
        path: of the file; "" where there is none.
        page: the page that shows it all.
        files: the pictures and films beside it.
        filters: one dict a layer: ``input``, ``layer``, ``filters``, ``size`` (time, rows and columns; or bands and
            frames).
        classes: one dict a class and input: ``label``, ``input``, and log odds of ``noise``, ``slow`` and ``fast``.
        maps: of a file, one dict a class and input: ``label``, ``input``, and ``probability`` over the file.
    """

    network: str
    path: str
    page: str
    files: tuple[str, ...]
    filters: tuple[dict[str, Any], ...]
    classes: tuple[dict[str, Any], ...]
    maps: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.explain/1``: the attributes by name."""
        return {"schema": "avlearn.explain/1", **asdict(self)}

    def text(self) -> str:
        """Human-readable text."""
        lines = [printable(f"{self.path}, by {self.network}" if self.path else self.network)]
        for layer in self.filters:
            size = " x ".join(map(str, layer["size"]))
            lines.append(f"  {layer['filters']} filters of the {layer['input']}, {size}")
        for one in self.classes:
            told = ", ".join(f"{name} {one[name]:+.1f}" for name in ("noise", "slow", "fast"))
            lines.append(f"  {printable(one['label'])}: log odds of drawn {one['input']}: {told}")
        chances = {one["label"]: one["probability"] for one in self.maps}
        lines += [f"  {printable(label)}: {chance:.2f} in the file" for label, chance in chances.items()]
        beside = f" and {len(self.files)} pictures and films beside it" if self.files else ""
        return "\n".join([*lines, f"wrote {printable(self.page)}{beside}"])


def check_explain_output(folder: Path, overwrite: bool = False) -> None:
    """Check, before minutes of work, that the folder can be written.

    Raises:
        OutputError: as `avlearn.files.check_folder`.
    """
    check_folder(folder, WRITTEN, overwrite)


def explain(
    network: ExplainedNetwork,
    folder: Path,
    *,
    path: Source | None = None,
    labels: Sequence[str] = (),
    steps: int = 200,
    progress: Progress | None = None,
) -> ExplainResult:
    """Write a page, and the pictures and films that it shows, to a folder.

    Args:
        network: from `avlearn.apply.explain.network.open_network`.
        folder: made where it is not there.
        path: a file, of which Grad-CAM is shown.
        labels: of the classes that are shown; by default the likeliest three of the file, or the first four.
        steps: of the drawing of each class.
        progress: is told what is done, how much of it, and of how much.

    Raises:
        ModelError: there is no class of such a name; or a file is given, and there are no classes.
        MediaError: the file cannot be read, or lacks what the network takes.
        OutputError: the folder cannot be written.
    """
    numbers = network.class_numbers(list(labels)) if labels else None
    if path is not None:
        check_kinds(path, network)
        numbers = best_classes(path, network, _BEST) if numbers is None else numbers
    if numbers is None:
        numbers = list(range(min(_DRAWN, len(network.labels))))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    say = progress or (lambda *_: None)
    maps = show_maps(network, folder, path, numbers, say) if path is not None else []
    classes = show_classes(network, folder, numbers, steps, say)
    filters = show_filters(network, folder)
    name = "" if path is None else str(path)
    page = write_page(folder / PAGE, network, name, maps, classes, filters)
    return ExplainResult(
        network=network.name,
        path=name,
        page=str(page),
        files=tuple(str(shown.path) for shown in (*maps, *classes, *filters)),
        filters=tuple(shown.facts for shown in filters),
        classes=tuple(shown.facts for shown in classes),
        maps=tuple(shown.facts for shown in maps),
    )
