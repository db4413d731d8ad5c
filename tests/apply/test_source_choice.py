"""What a person asks for is read, or refused in a line."""

import pytest

from avlearn.apply.source_choice import Face, When, check_choices, parse_choice, parse_when
from avlearn.errors import AvlearnError


def test_each_way_to_name_a_source():
    assert parse_choice("left") == (0.0, 0.0, 0.5, 1.0)
    assert parse_choice("3") == 3
    assert parse_choice("0.25,0.5") == (0.25, 0.5)
    assert parse_choice("0,0,0.5,1") == (0.0, 0.0, 0.5, 1.0)
    assert parse_choice("face 2") == Face(2)
    assert parse_when("6.3-7") == When(((6.3, 7.0),))
    assert parse_when("6.3-7,9-9.5") == When(((6.3, 7.0), (9.0, 9.5)))


@pytest.mark.parametrize(
    "text", ["", "middle", "face", "face 0", "face two", "1.2,0.5", "0.5,0,0.2,1", "nan,0.5", "-1"]
)
def test_what_names_no_source(text):
    with pytest.raises(AvlearnError, match=r"names no source: give left, right, x,y .* or \"face N\"$"):
        parse_choice(text)


@pytest.mark.parametrize("text", ["", "7", "7-6", "6-6", "a-b", "1-2-3", "1-2,", "-1-2", "0-inf", "nan-1", "1:02-1:04"])
def test_what_is_no_span(text):
    with pytest.raises(AvlearnError, match="is no span: give its begin and end in seconds"):
        parse_when(text)


def test_what_no_file_of_this_length_holds():
    check_choices([When(((7.0, 8.2),)), 1, (0.5, 0.5)], 8.2)
    with pytest.raises(AvlearnError, match=r"^--when 1-2,9-10: the file ends at 8\.2 s$"):
        check_choices([When(((1.0, 2.0), (9.0, 10.0)))], 8.2)
    with pytest.raises(AvlearnError, match="9 sources are too many: ask for 8 at most"):
        check_choices([1] * 9, 8.2)
