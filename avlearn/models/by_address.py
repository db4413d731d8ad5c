"""Model folders at addresses: their files are fetched to the cache, and read from there as those of any folder."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

from avlearn.errors import MediaError, ModelError, OutputError
from avlearn.files import in_bytes, printable
from avlearn.remote.address import is_address
from avlearn.remote.cache import kept, key
from avlearn.remote.file import AbsentError, ForbiddenError, RemoteFile
from avlearn.terminal import remark

# What a model's folder may hold. Whatever else lies at an address is not asked for.
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_OTHERS = (
    "README.md", "in_distribution.safetensors", "sync.json", "localize.json", "separate.json", "separate_quality.json",
    "objective.json", "objective.safetensors", "preview/config.json", "preview/model.safetensors",
)  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")


def by_address(function: Callable[Concatenate[str | Path, P], T]) -> Callable[Concatenate[str | Path, P], T]:
    """Have a function of a model's name or path, its first argument, take the address of a model folder as well.

    What it raises of the copy names the address.
    """

    @wraps(function)
    def fetched(name_or_path: str | Path, *args: P.args, **kwargs: P.kwargs) -> T:
        if not (isinstance(name_or_path, str) and is_address(name_or_path)):
            return function(name_or_path, *args, **kwargs)
        folder = _copy(name_or_path)
        try:
            return function(folder, *args, **kwargs)
        except ModelError as error:
            raise ModelError(str(error).replace(str(folder), name_or_path)) from error

    return cast("Callable[Concatenate[str | Path, P], T]", fetched)  # its first argument may be named, too


def _copy(address: str) -> Path:
    folder = _fetched(address)
    if not folder.is_dir():  # the cache dropped it
        _fetched.cache_clear()
        folder = _fetched(address)
    return folder


@lru_cache(maxsize=16)  # a process works with one version of a model
def _fetched(address: str) -> Path:
    """The copy of a model folder, or of that in a run's folder.

    Raises:
        ModelError: there is none, or it cannot be fetched or kept.
    """
    base = address.rstrip("/")
    try:
        with ExitStack() as stack:
            try:
                config = stack.enter_context(RemoteFile(f"{base}/{_CONFIG}"))
            except AbsentError:
                base += "/model"
                config = stack.enter_context(RemoteFile(f"{base}/{_CONFIG}"))
            files = {_CONFIG: config, _WEIGHTS: stack.enter_context(RemoteFile(f"{base}/{_WEIGHTS}"))}
            for name in _OTHERS:
                try:
                    files[name] = stack.enter_context(RemoteFile(f"{base}/{name}"))
                except (AbsentError, ForbiddenError):  # stores say the latter of what is not there, too
                    continue
            return _kept(base, files)
    except AbsentError as error:
        raise ModelError(f"{address} is no model folder: {error}") from error
    except (MediaError, OutputError) as error:
        raise ModelError(str(error)) from error


def _kept(address: str, files: dict[str, RemoteFile]) -> Path:
    size = sum(file.size for file in files.values())

    def fill(part: Path) -> None:
        remark(f"fetching {printable(address)} ({in_bytes(size)})")
        for name, file in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            with (part / name).open("wb") as written:
                file.save(written, 0, file.size)

    facts = [f"{name} {file.size} {file.version}" for name, file in files.items()]
    return kept(key("model", address, *facts), size, fill, address)
