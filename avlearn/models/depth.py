"""Which layer each parameter of an encoder belongs to, from the input to the head."""

from avlearn.models.encoder import Encoder

INPUT, HEAD = "input", "head"


def layers_of(encoder: Encoder) -> dict[str, list[str]]:
    """Names of parameters by layer, in the order of the data.

    Layers are the encoder's stages where its parameters are named after these, and else its numbered blocks. What
    comes before the first is `INPUT`; what comes after the last, and the classifier, is `HEAD`.
    """
    names = [name for name, _ in encoder.named_parameters()]
    body = [name for name in names if not is_classifier(name)]
    stages = [info.name for info in encoder.stage_info]
    place = {name: next((stage for stage in stages if f".{stage}." in f".{name}"), None) for name in body}
    if not any(place.values()):
        place = {name: _block(name) for name in body}
    order = list(dict.fromkeys(layer for layer in place.values() if layer))
    order = [stage for stage in stages if stage in order] or order
    found: dict[str, list[str]] = {layer: [] for layer in (INPUT, *order, HEAD)}
    left = sum(layer is not None for layer in place.values())
    current = INPUT
    for name in body:
        left -= place[name] is not None
        current = place[name] or (HEAD if not left and order else current)
        found[current].append(name)
    found[HEAD] += [name for name in names if is_classifier(name)]
    return {layer: members for layer, members in found.items() if members}


def is_classifier(name: str) -> bool:
    """Whether a parameter is a classifier's: an encoder of several streams has one in each."""
    return ".classifier." in f".{name}"


def _block(name: str) -> str | None:
    """A name up to its first number: ``blocks.3`` of ``blocks.3.attn.weight``; None where there is none."""
    parts = name.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), None)
    return None if number is None else ".".join(parts[: number + 1])
