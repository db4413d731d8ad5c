"""Weight files from the net, each fetched once and checked against the hash that goes with it."""

import hashlib
import re
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from avlearn.errors import ModelError

# As torchvision and OpenMMLab publish: the first digits of the file's SHA-256 end its name.
_NAMED = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
_PINNED = re.compile(r"sha256=([0-9a-f]{8,64})$")


def is_address(source: str) -> bool:
    """Whether that is an address, not a path."""
    return source.startswith(("https://", "http://", "hf://"))


def download(address: str) -> Path:
    """A file, from the cache where it is there already (PyTorch's, or Hugging Face's).

    Args:
        address: ``https://...``, its hash in its name as torchvision has it, or behind it (``...#sha256=0123abcd...``);
            or ``hf://OWNER/REPOSITORY[/FILE]``, where the hash is what the hub states.

    Raises:
        ModelError: it cannot be had, or is not what the hash says.
    """
    return _from_hub(address) if address.startswith("hf://") else _from_web(address)


def _from_web(address: str) -> Path:
    parts = urlsplit(address)
    name = Path(parts.path).name
    match = _PINNED.search(parts.fragment) or _NAMED.search(name)
    if not _NAMED.search(name):
        # Repositories have files of the same name in several folders.
        name = f"{hashlib.sha256(address.encode()).hexdigest()[:8]}_{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside, checked, and then put in its place.
        torch.hub.download_url_to_file(address.partition("#")[0], str(path), match[1] if match else None)
    except (URLError, TimeoutError) as error:
        raise ModelError(f"cannot fetch {address}: {getattr(error, 'reason', error)}") from error
    except RuntimeError as error:
        raise ModelError(f"{address} is not the file that was published: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot keep {path}: {error.strerror}") from error
    return path


def _from_hub(address: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    owner, _, rest = address.removeprefix("hf://").partition("/")
    repository, _, file = rest.partition("/")
    if not repository:
        raise ModelError(f"'{address}' is no repository of the hub: write hf://OWNER/REPOSITORY")
    try:
        try:
            path = Path(hf_hub_download(f"{owner}/{repository}", file or "model.safetensors"))
        except EntryNotFoundError as error:
            if file or isinstance(error, LocalEntryNotFoundError):  # the latter: there is no connection
                raise
            path = Path(hf_hub_download(f"{owner}/{repository}", "pytorch_model.bin"))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"cannot fetch {address}: {str(error).strip().splitlines()[0]}") from error
    # The hub's cache names large files by the hash that the hub states.
    stated = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", stated):
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != stated:
            raise ModelError(f"{address} is not the file that was published: its SHA-256 is {found}, not {stated}")
    return path
