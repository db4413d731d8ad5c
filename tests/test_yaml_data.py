"""YAML as data: what plain values mean, and each way to be wrong in one line with its place."""

import time

import pytest

from avlearn.errors import RecipeError
from avlearn.recipe.yaml_data import MAX_BYTES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("5.0e-4", 5e-4), (".5", 0.5), ("1.", 1.0), ("-3", -3), ("007", 7), ("~", None), ("true", True),
        ("False", False), ("yes", "yes"), ("1:30", "1:30"), ("1_000", "1_000"), ("2020-01-01", "2020-01-01"),
        ("32-true", "32-true"), (".inf", float("inf")), ("-.INF", -float("inf")), ("inf", "inf"),
        ("'1'", "1"), ('"true"', "true"), ("[1, a, null]", [1, "a", None]), ('{"a":1, b: [x]}', {"a": 1, "b": ["x"]}),
        ("", None), ("# nothing", None), ("{}", {}), ("a: &name b", {"a": "b"}),
    ],
)  # fmt: skip
def test_plain_values(text, value):
    read = parse_yaml(text, "x")
    assert read == value
    assert type(read) is type(value)


DEEP = "[" * 5000 + "]" * 5000
BOMB = b"a: &a [x, x, x]\n" + b"".join(
    b"k%d: &a%d [*a%s]\n" % (n, n, b"" if n == 0 else b"%d" % (n - 1)) for n in range(9)
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"name: x\n  task: [\n", "line 2: not valid YAML"),
        (b"a: 1\n\tb: 2\n", "line 2: not valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice"),
        (b"a: {b: 1, b: 2}\n", "line 1: the key 'b' is there twice"),
        (b"a: 1\n2: b\n", "line 2: the key 2 is no word"),
        (b"? [a]\n: b\n", "line 1: a key is a word"),
        (b"null: b\n", "line 1: the key null is no word"),
        (BOMB, "line 2: the alias *a is not supported"),
        (b"a: &a [*a]\n", "line 1: the alias *a is not supported"),
        (b"a: {b: 1}\n<<: *a\n", "line 2: the alias"),
        (b"a: !!python/object/apply:os.system [ls]\n", "python/object/apply:os.system is not supported"),
        (b"a: !!binary aGk=\n", "binary is not supported"),
        (b"a: %s\n" % DEEP.encode(), "line 1: nested more than 16 deep"),
        (b"".join(b" " * n + b"a:\n" for n in range(300)), "line 17: nested more than 16 deep"),
        (b"x: " + b"y" * MAX_BYTES, "is longer than 64 kB"),
        (b"\nname: \xe9t\xe9\n", "line 2: not UTF-8"),
        ("name: x\n".encode("utf-16"), "not UTF-8"),
        (b"name: \x00\n", "not valid YAML"),
        (b"a: ${oc.env:HOME}\n", "line 1: '${oc.env:HOME}': interpolation is not supported"),
        (b"a: 1\nb: ['x${a}']\n", "line 2: 'x${a}': interpolation is not supported"),
        (b"a: 1\n---\nb: 1\n", "a second document begins"),
        (b"- a\n", "not a mapping"),
        (b"", "is empty"),
        (b"word", "not a mapping"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, data, said):
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    begun = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_yaml(path)
    assert time.process_time() - begun < 5
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "r.yaml").write_bytes("name: x\n".encode("utf-8-sig"))
    assert read_yaml(tmp_path / "r.yaml") == {"name": "x"}


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_yaml(tmp_path)
