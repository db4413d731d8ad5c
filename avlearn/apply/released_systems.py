"""Models of the tools by name: ours, or a whole released system, which is fetched."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from avlearn.device import choose_device, choose_precision
from avlearn.errors import ModelError
from avlearn.models.folder import load
from avlearn.models.weights.systems import released_systems, system_files


def open_model(task: str, name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> Any:
    """A model as `avlearn.load` opens it, or what answers for a released system of that name.

    A folder comes before a system of the same name.

    Args:
        task: the command that it is for.
        name_or_path, device, precision: as for `avlearn.load`.

    Raises:
        ModelError: there is no such model, it is for another command, or its files cannot be had or do not fit.
        AvlearnError: there is no such device or precision here.
    """
    system = None if Path(name_or_path).is_dir() else released_systems().get(str(name_or_path))
    if system is None:
        return load(name_or_path, device, precision)
    if system.task != task:
        raise ModelError(f"{system.title} is for avlearn {system.task}, not for {task}")
    place = choose_device(device)
    number_format = choose_precision(precision, place)
    module, _, function = system.opener.partition(":")
    opener = getattr(import_module(module), function)
    return opener(*system_files(system), title=system.title, device=place, precision=number_format, **system.options)


sync_model = partial(open_model, "sync")
localize_model = partial(open_model, "localize")
separate_model = partial(open_model, "separate")
