"""Checkpoints: the same bytes for the same state, and what is damaged is found before it is believed."""

import io
import os
import random
import zipfile
from pathlib import Path

import pytest
import torch

from avlearn.errors import OutputError
from avlearn.training.checkpoints import BEFORE, LAST, CheckpointFiles, last_good, read_checkpoint


def state(step: int) -> dict:
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(step))
    return {"state_dict": {"weight": weights}, "global_step": step, "callbacks": {"Figures": {"rows": ""}}}


@pytest.fixture
def folder(tmp_path) -> Path:
    """With the checkpoints of steps 4 and 2."""
    for name, step in ((LAST, 4), (BEFORE, 2)):
        CheckpointFiles().save_checkpoint(state(step), tmp_path / name)
    return tmp_path


def test_the_newest_is_taken(folder, capsys):
    path, found = last_good(folder)
    assert path.name == LAST and found["global_step"] == 4
    assert torch.equal(found["state_dict"]["weight"], state(4)["state_dict"]["weight"])
    assert not capsys.readouterr().err


def test_none_at_all(tmp_path):
    assert last_good(tmp_path) is None


class Call:
    """Leaves a file where it is unpickled with all it may do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def harmed(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"no checkpoint")
    elif how == "call":
        torch.save(state(4) | {"more": Call(path.parent / "called")}, path)
    elif how == "other":
        torch.save({"weight": torch.zeros(1)}, path)
    elif how == "script":
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
        path.write_bytes(buffer.getvalue())
    else:
        rng = random.Random(how)
        damaged = bytearray(data)
        for _ in range(int(how.split()[0])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "call", "other", "script", "3000 bits", "30 bits"])
@pytest.mark.filterwarnings("error:.*TorchScript archive:UserWarning")  # torch would look into it
def test_a_damaged_one_gives_way_to_the_one_before(folder, how, capsys):
    harmed(folder / LAST, how)
    path, found = last_good(folder)
    assert path.name == BEFORE and found["global_step"] == 2
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {folder / LAST} is ") and "going on from step 2 in previous.ckpt" in said
    assert said.count("\n") == 1
    assert not (folder / "called").exists()


def test_any_single_bit_of_what_is_read_is_noticed_or_harmless(folder):
    whole = (folder / LAST).read_bytes()
    rng = random.Random(0)
    noticed = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (folder / LAST).write_bytes(damaged)
        try:
            found = read_checkpoint(folder / LAST)
        except OutputError:
            noticed += 1
            continue
        assert found["global_step"] == 4
        assert torch.equal(found["state_dict"]["weight"], state(4)["state_dict"]["weight"])
    assert noticed > 100


def test_all_damaged_is_an_end(folder):
    harmed(folder / LAST, "cut")
    harmed(folder / BEFORE, "empty")
    with pytest.raises(OutputError, match="no other to go on from"):
        last_good(folder)


def test_equal_states_give_equal_bytes(tmp_path):
    """Also where one has been read from a file, so that what was one object is several."""
    word = "".join(["ste", "p"])
    first = {"a": {"step": 1, "of": ["step", word]}, **state(3)}
    CheckpointFiles().save_checkpoint(first, tmp_path / "a")
    again = torch.load(tmp_path / "a", weights_only=True)
    CheckpointFiles().save_checkpoint(again, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a").testzip() is None
