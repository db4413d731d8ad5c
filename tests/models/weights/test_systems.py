"""Released systems by name: what is listed, what is fetched, and what a person has to put where."""

import hashlib
import json
import re
from dataclasses import replace
from importlib import import_module

import pytest

from avlearn.errors import ModelError
from avlearn.models.listing import weight_list
from avlearn.models.weights.systems import ReleasedSystem, SystemFile, released_systems, system_files

DATA = b"weights" * 1000


def system(*files: SystemFile) -> ReleasedSystem:
    return ReleasedSystem("some", "Some System", "sync", "we", "MIT", "all", "none:none", files)


def test_each_is_listed_in_one_line():
    lines = weight_list().text().partition("\n\n")[0].splitlines()
    assert len(lines) == len(released_systems()) + 2
    assert all(len(line) <= 100 and not line.endswith("…") for line in lines)
    for line, known in zip(lines[2:], released_systems().values(), strict=True):
        assert line.split()[:3] == [known.name, known.task, str(known.megabytes)]
        assert known.licence in line and line.endswith(known.use) and f"  {known.download}  " in line
    found = json.loads(json.dumps(weight_list("sync*").to_dict()))
    assert [each["name"] for each in found["systems"]] == ["synchformer", "synchformer_lrs3", "syncnet"]
    assert found["systems"][0]["files"][0]["hash"] == "md5=5b2f5594b0730f70e41e549b7c94390c"
    with pytest.raises(ModelError, match="no encoder's name matches 'nothing'"):
        weight_list("nothing")


@pytest.mark.parametrize("name", released_systems())
def test_what_is_written_of_each_can_be_used(name):
    known = released_systems()[name]
    assert known.task in ("sync", "localize", "separate")
    module, _, function = known.opener.partition(":")
    assert callable(getattr(import_module(module), function))
    assert len({file.name for file in known.files}) == len(known.files)
    for file in known.files:
        assert bool(file.address) != bool(file.page)
        assert not file.address or file.address.startswith("https://")
        assert re.fullmatch(r"((md5|sha256)=[0-9a-f]{7,64})?", file.hash)
        assert file.megabytes > 0


def test_a_file_is_fetched_once_and_held_to_the_published_hash(server, capsys):
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    server.files["/a/best.pth"] = DATA
    whole = system(SystemFile("best.pth", 7, f"{server.address}/a/best.pth", hash=f"md5={md5[:8]}"))
    (path,) = system_files(whole)
    assert path == whole.folder / "best.pth" and path.read_bytes() == DATA
    assert "fetching best.pth of Some System, about 7 MB, to" in capsys.readouterr().err
    assert system_files(whole) == [path] and server.asked == ["/a/best.pth"]
    path.write_bytes(b"another")
    with pytest.raises(
        ModelError, match=rf"best\.pth is not the file that was published: its md5 is .*, not {md5[:8]}"
    ):
        system_files(whole)
    path.unlink()
    server.files["/a/best.pth"] = b"another"
    with pytest.raises(ModelError, match="not the file that was published"):
        system_files(whole)
    assert not path.exists()


def test_without_a_published_hash_a_file_is_held_to_its_first_use(secure):
    secure.files["/a.pth"] = DATA
    fetched = system(SystemFile("a.pth", 1, "https://files.test/a.pth"))
    (path,) = system_files(fetched)
    assert system_files(fetched) == [path] and secure.asked == ["/a.pth"]
    path.write_bytes(DATA[:-1])
    with pytest.raises(ModelError, match=r"a\.pth is not the file that it was when it was first used.*a\.pth\.json"):
        system_files(fetched)
    path.with_name("a.pth.json").unlink()
    assert system_files(fetched) == [path]


def test_without_a_network_the_line_says_what_goes_where(server):
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    far = system(SystemFile("a.pth", 1, "http://127.0.0.1:1/a.pth", hash=f"md5={md5}"))
    with pytest.raises(ModelError) as caught:
        system_files(far)
    said = str(caught.value)
    assert said.startswith("cannot fetch http://127.0.0.1:1/a.pth: ")
    assert said.endswith(f"; without a network, put a.pth into {far.folder} by hand")
    far.folder.mkdir(parents=True, exist_ok=True)
    (far.folder / "a.pth").write_bytes(DATA)
    assert system_files(far) == [far.folder / "a.pth"]
    assert server.asked == []


def test_what_takes_a_browser_is_asked_for_in_one_line(server):
    page = "https://drive.test/folder"
    shy = system(*(SystemFile(name, 1, page=page) for name in ("a.pth", "b.pth")))
    asked = f"Some System needs {{}}, which takes a browser: get it from {page} and put it into {shy.folder}"
    with pytest.raises(ModelError) as caught:
        system_files(shy)
    assert str(caught.value) == asked.format("a.pth, b.pth")
    shy.folder.mkdir(parents=True)
    (shy.folder / "a.pth").write_bytes(DATA)
    with pytest.raises(ModelError) as caught:
        system_files(shy)
    assert str(caught.value) == asked.format("b.pth")
    (shy.folder / "b.pth").write_bytes(DATA)
    assert system_files(shy) == [shy.folder / "a.pth", shy.folder / "b.pth"]
    (shy.folder / "b.pth").write_bytes(b"another")
    with pytest.raises(ModelError, match="when it was first used"):
        system_files(replace(shy))
