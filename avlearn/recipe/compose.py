"""The recipe of an experiment: composed from pieces, checked before anything heavy is loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from avlearn.errors import RecipeError
from avlearn.files import is_file, printable
from avlearn.names import hint
from avlearn.plugins import HINT
from avlearn.recipe.schema import BOUND, Recipe
from avlearn.recipe.yaml_data import MAX_BYTES, MAX_DEPTH, parse_yaml, plain_value, read_yaml

R = TypeVar("R", bound=Recipe)

_MAX_FILES = 64  # that one recipe may be composed of
_PIECE = re.compile(r"\w[\w.-]{0,99}")


def share_folder() -> Path:
    """The folder that holds ``configs/`` and ``recipes/``: in the wheel, or the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_share"
    return inside if inside.is_dir() else package.parent


def list_recipes() -> list[str]:
    """Names of the recipes that come with avlearn."""
    return sorted(path.stem for path in (share_folder() / "recipes").glob("*.yaml"))


def summary(recipe: str) -> str:
    """The first sentence of the comment at the head of a recipe, below the command that trains it."""
    lines = (share_folder() / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    said = " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines[1:]))
    return re.split(r"(?<=[^A-Z]\.) ", said)[0]


def _groups() -> list[str]:
    """Sections that there are pieces of."""
    return sorted(folder.name for folder in (share_folder() / "configs").iterdir() if folder.is_dir())


@dataclass(frozen=True)
class Composed:
    """Values of a recipe before they are checked.

    Attributes:
        path: of the recipe's file.
        values: of all its keys.
        said: full paths of those that its own file or an override sets, and not only its pieces.
    """

    path: Path
    values: dict[str, Any]
    said: frozenset[str]


def compose(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Composed:
    """Compose a recipe.

    Args:
        name_or_path: one of `list_recipes`, or the path of a YAML file. Its ``defaults`` list names pieces
            (``- model: dsconv``) and recipes (``- sync_world``) that it builds on, which are looked for beside it
            and then in the package. A piece replaces its section; other keys are merged, and the recipe's own win.
        overrides: ``group=piece``, or ``key.path=value`` (which win).

    Raises:
        RecipeError: one line with the file and line, or the key's full path, and what would be valid.
    """
    path = _find(name_or_path)
    pieces, settings = _parse_overrides(overrides)
    composition = _Composition()
    values = composition.recipe(path)
    chosen = {group: composition.piece(path, group, name) for group, name in pieces.items()}
    said = _leaves(read_yaml(path)) | _leaves(chosen)
    values |= chosen
    values.setdefault("model", None)
    for section in values.keys() & {"model", "objective"}:
        named = {parts[1]: value for parts, value in settings if parts[0] == section and len(parts) == 2}
        values[section] = _freed(section, values.get(section), named)
    for key, value in settings:
        _set(values, key, value)
        said |= {".".join(key[: k + 1]) for k in range(len(key))} | _leaves(value, ".".join(key) + ".")
    return Composed(path, values, frozenset(said))


def checked(composed: Composed, kind: type[R]) -> R:
    """The recipe of composed values, as its task's class checks them.

    Raises:
        RecipeError: one line with the key's full path, and what would be valid.
    """
    try:
        recipe = kind.model_validate(composed.values)
    except ValidationError as error:
        raise RecipeError(f"{printable(composed.path.name)}: {_explain(error, composed.values, kind)}") from error
    _set_only(recipe, composed.said)
    return recipe


def _set_only(section: BaseModel, said: frozenset[str], prefix: str = "") -> None:
    """Leave in ``model_fields_set`` what the recipe's own file or an override sets, and not what its pieces do."""
    for name in tuple(section.model_fields_set):
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            _set_only(value, said, f"{prefix}{name}.")
        if f"{prefix}{name}" not in said:
            section.model_fields_set.discard(name)


def _leaves(values: object, prefix: str = "") -> set[str]:
    """Full paths of all keys, those of sections too."""
    if not isinstance(values, dict):
        return set()
    return {name for key, value in values.items() for name in (f"{prefix}{key}", *_leaves(value, f"{prefix}{key}."))}


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not is_file(path):
            raise RecipeError(f"there is no recipe file {path}")
        return path.resolve()
    names = list_recipes()
    if str(name_or_path) not in names:
        raise RecipeError(
            f"no recipe is called {_short(str(name_or_path))}{hint(str(name_or_path), names)}; "
            "avlearn recipe list names all"
        )
    return share_folder() / "recipes" / f"{name_or_path}.yaml"


class _Composition:
    """The values of a recipe and of what it builds on."""

    def __init__(self) -> None:
        self.files = 0

    def recipe(self, path: Path, outer: tuple[Path, ...] = ()) -> dict[str, Any]:
        """Values of a recipe file: of its entries in their order, where a piece replaces its whole section."""
        if path in outer:
            raise RecipeError(f"{path}: defaults: the recipe builds on itself, by way of {outer[-1].name}")
        own = self._read(path)
        values: dict[str, Any] = {}
        for group, name in _defaults(own.pop("defaults", []), path):
            if group:
                values[group] = self.piece(path, group, name)
            elif name == "_self_":
                values = _merged(values, own)
            else:
                file = _beside(path, f"{name}.yaml", "recipes")
                if file is None:
                    near = hint(name, list_recipes())
                    raise RecipeError(f"{path}: defaults: no recipe is called '{name}'{near}")
                values = _merged(values, self.recipe(file, (*outer, path)))
        return values

    def piece(self, path: Path, group: str, name: str) -> dict[str, Any]:
        """Values of a section, as a piece has them."""
        file = _beside(path, f"{group}/{name}.yaml", "configs") if _PIECE.fullmatch(name) else None
        if file is None:
            if group not in _groups():
                raise RecipeError(f"{path.name}: there are no pieces of '{group}', only of {', '.join(_groups())}")
            names = [file.stem for file in (share_folder() / "configs" / group).glob("*.yaml")]
            if group == "objective":
                from avlearn.objectives import list_objectives  # slow to import; a piece that is there needs it not

                if name in list_objectives():  # with its defaults
                    return {"name": name}
                names += list_objectives()
            more = f"; {HINT}" if group == "objective" else ""
            raise RecipeError(f"{path.name}: no piece of '{group}' is called {_short(name)}{hint(name, names)}{more}")
        return self._read(file)

    def _read(self, path: Path) -> dict[str, Any]:
        self.files += 1
        if self.files > _MAX_FILES:
            raise RecipeError(f"{path}: the recipe builds on more than {_MAX_FILES} files")
        return read_yaml(path)


def _beside(path: Path, name: str, room: str) -> Path | None:
    """What a recipe file builds on: beside it, or in the package."""
    places = (path.parent / name, share_folder() / room / name)
    return next((place.resolve() for place in places if is_file(place)), None)


def _defaults(listed: object, path: Path) -> list[tuple[str, str]]:
    """Group and piece of each entry, the group "" for a recipe; ``_self_`` is there, last where it is not said."""
    if not isinstance(listed, list):
        raise RecipeError(f"{path}: defaults: {_short(listed)} is no list: write entries, like - model: dsconv")
    entries = []
    for item in listed:
        pair = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else ("", item)
        if not all(isinstance(word, str) for word in pair) or not all(_PIECE.fullmatch(word) for word in pair if word):
            raise RecipeError(f"{path}: defaults: {_short(item)} is no entry: write - model: dsconv, or - sync_world")
        entries.append(pair)
    return entries if ("", "_self_") in entries else [*entries, ("", "_self_")]


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Sections of both, the values of the second where both have one."""
    both = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _merged(_freed(key, below[key], above[key]), above[key])
    return both


def _freed(section: str, values: Any, named: Mapping[str, object]) -> Any:
    """A section without what it says of encoders, or of the objective, in whose place others are named."""
    if not isinstance(values, dict):
        return {} if values is None and section == "model" else values
    if section == "objective":
        return values if named.get("name", values.get("name")) == values.get("name") else {}
    bound = BOUND if section == "model" else {}
    gone = [keys for tower, keys in bound.items() if named.get(tower, values.get(tower)) != values.get(tower)]
    return {key: value for key, value in values.items() if not any(key in keys for keys in gone)}


def _parse_overrides(overrides: Sequence[str]) -> tuple[dict[str, str], list[tuple[list[str], object]]]:
    """The pieces that are chosen (``model=dsconv`` where ``configs/model/`` exists), and the values that are set."""
    pieces, settings = {}, []
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals or not all(part.isidentifier() for part in parts) or len(parts) > MAX_DEPTH:
            raise RecipeError(f"{_short(override)} is not an override: write key=value, like trainer.max_steps=100")
        if key in _groups():
            pieces[key] = text
        else:
            settings.append((parts, _value(text, key)))
    return pieces, settings


def _value(text: str, key: str) -> object:
    """A list, mapping or quoted text as in YAML; anything else is one word or text, whatever it holds."""
    if "${" in text:
        raise RecipeError(f"{key}: {_short(text)}: interpolation is not supported: write the value")
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{key}: {_short(text)} is too long")
    if not text.startswith(("[", "{", "'", '"')):
        return plain_value(text)
    # {a:1} is a mapping here, as it is in JSON with its quotes.
    return parse_yaml(re.sub(r"([{,]\s*\w+):(?=\S)", r"\1: ", text) if text[0] == "{" else text, key)


def _set(values: dict[str, Any], parts: list[str], value: object) -> None:
    """Set a value in its section, which is made where there is none."""
    for part in parts[:-1]:
        if values.get(part) is None:
            values[part] = {}
        values = values[part]
        if not isinstance(values, dict):
            raise RecipeError(f"{'.'.join(parts)}: {part} is a value, and no section")
    values[parts[-1]] = value


def _short(value: object) -> str:
    """A value as it is written in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _explain(error: ValidationError, values: Mapping[str, object], kind: type[Recipe]) -> str:
    first = error.errors()[0]
    where = printable(".".join(str(part) for part in first["loc"])[:200])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a section, and of a dataclass
        return f"no such key '{where}'{hint(where, kind.known_keys(values))}"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "missing" else f" (given: {_short(first['input'])})"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}{given}"
