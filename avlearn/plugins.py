"""Modules of other packages that add tasks, encoders, objectives, corpora and evaluators.

A package names them as entry points of the group ``avlearn.plugins``; anyone else by ``avlearn --plugin MODULE``, which
may be repeated. A plugin is imported; what it registers is then there under its name, in recipes too. A recipe or a
model folder cannot name a plugin: both may come from strangers, and a plugin is code.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

from avlearn.errors import AvlearnError

GROUP = "avlearn.plugins"
HINT = "if a plugin adds it, name that: avlearn --plugin MODULE"  # of messages that a name is unknown
_VARIABLE = "AVLEARN_PLUGINS"  # how the processes that this one starts know of them
_loaded: set[str] = set()


def use_plugins(modules: Sequence[str]) -> None:
    """Take modules as plugins, in this process and in those that it starts.

    Raises:
        AvlearnError: one cannot be imported.
    """
    os.environ[_VARIABLE] = ",".join(dict.fromkeys([*_named(), *modules]))
    load_plugins()


def load_plugins() -> None:
    """Import all plugins, each once. Registries do it when they are asked for a name that they do not have.

    Raises:
        AvlearnError: one cannot be imported.
    """
    found = [entry.module for entry in entry_points(group=GROUP)]
    if _named() and "" not in sys.path:
        sys.path.append("")  # a module in the current folder, where a console script does not look
    for name in dict.fromkeys([*found, *_named()]):
        if name in _loaded:
            continue
        _loaded.add(name)
        try:
            import_module(name)
        except (Exception, SystemExit) as error:  # whatever code of others raises; a script may even end Python
            _loaded.discard(name)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if isinstance(error, SystemExit):
                reason = "it ends Python, as a script does"
            raise AvlearnError(f"the plugin {name} cannot be imported: {reason}") from error


def _named() -> list[str]:
    return [name for name in os.environ.get(_VARIABLE, "").split(",") if name]
