"""The recipe of an experiment: composed from pieces, checked before anything heavy is loaded."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from avlearn.errors import RecipeError
from avlearn.schema import Recipe


def share_folder() -> Path:
    """The folder that holds ``configs/`` and ``recipes/``: in the wheel, or the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_share"
    return inside if inside.is_dir() else package.parent


def list_recipes() -> list[str]:
    """Names of the recipes that come with avlearn."""
    return sorted(path.stem for path in (share_folder() / "recipes").glob("*.yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Compose a recipe and check it.

    Args:
        name_or_path: one of `list_recipes`, or the path of a YAML file. Its ``defaults`` list names pieces of
            ``configs/`` (``- model: dsconv``).
        overrides: ``key.path=value`` each, or ``group=piece``.

    Raises:
        RecipeError: one line with the key's full path and what would be valid.
    """
    path = _find(name_or_path)
    values = _compose(path, list(overrides))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path.name}: {_explain(error)}") from error


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {path}")
        return path.resolve()
    names = list_recipes()
    if str(name_or_path) not in names:
        raise RecipeError(
            f"no recipe is called '{name_or_path}'; the nearest is '{_nearest(str(name_or_path), names)}'"
        )
    return share_folder() / "recipes" / f"{name_or_path}.yaml"


def _nearest(key: str, names: Sequence[str]) -> str:
    return difflib.get_close_matches(key, names, 1, 0.0)[0]


def _compose(path: Path, overrides: list[str]) -> dict:
    # Hydra is slow to import; `--help` and errors of the lines above must not wait for it.
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        if "=" not in override:
            raise RecipeError(f"'{override}' is not an override: write key=value")
    try:
        yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    GlobalHydra.instance().clear()
    # Pieces may only be found beside the package: a user's recipe lies anywhere.
    forced = [override if override[0] in "+~" else f"++{override}" for override in overrides]
    forced = [_as_group(override, raw) for override, raw in zip(forced, overrides, strict=True)]
    try:
        with initialize_config_dir(str(path.parent), version_base=None):
            config = compose(path.stem, [*forced, f"hydra.searchpath=[file://{share_folder()}/configs]"])
    except MissingConfigException as error:
        group, _, piece = (error.missing_cfg_file or "").partition("/")
        pieces = [file.stem for file in (share_folder() / "configs" / group).glob("*.yaml")]
        if not piece or not pieces:
            raise RecipeError(f"{path.name}: {str(error).splitlines()[0]}") from error
        raise RecipeError(
            f"{path.name}: no piece of '{group}' is called '{piece}'; the nearest is '{_nearest(piece, pieces)}'"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise RecipeError(f"{path.name}: {str(error).splitlines()[0]}") from error
    return OmegaConf.to_container(config, resolve=True)


def _as_group(forced: str, raw: str) -> str:
    """``model=dsconv`` chooses a piece where ``configs/model/`` exists; everything else sets a value."""
    key = raw.split("=", 1)[0]
    return raw if "." not in key and (share_folder() / "configs" / key).is_dir() else forced


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    if parts[:1] == ["objective"] and len(parts) > 2:
        del parts[1]  # the name of the objective, by which its options are told from those of others
    where = ".".join(parts)
    if first["type"] == "extra_forbidden":
        near = _nearest(where, _keys(Recipe))
        return f"no such key '{where}'; the nearest is '{near}'"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}{given}"


def _keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        found.append(prefix + name)
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += _keys(kind, f"{prefix}{name}.")
    return found
