"""What is offered to somebody whose name for a thing is not known."""

import pytest

from avlearn.names import hint, nearest

ENCODERS = ["c3d", "ip_csn_50", "ir_csn_152", "mvit_v1_b", "r3d_18", "slow_r50", "slowfast_tiny", "vivit_b", "x3d_s"]


@pytest.mark.parametrize(
    "name, meant",
    [
        ("resnet18", ["r3d_18"]),  # and not what has letters of it here and there, like ir_csn_152
        ("xd3_s", ["x3d_s"]),
        ("X3DS", ["x3d_s"]),
        ("mvit", ["mvit_v1_b", "vivit_b"]),  # what holds the word comes first
        ("csn", ["ip_csn_50", "ir_csn_152"]),
        ("slowfas", ["slowfast_tiny", "slow_r50"]),
        ("clip", []),
        ("", []),
    ],
)
def test_names_that_are_like_it_come_first_and_others_not_at_all(name, meant):
    assert nearest(name, ENCODERS, 2)[: len(meant)] == meant
    assert meant or nearest(name, ENCODERS) == []


def test_a_message_ends_in_what_helps():
    assert hint("temprature", ["scale", "temperature"]) == "; the nearest is 'temperature'"
    assert hint("slow", ENCODERS, "video encoder", 2) == "; the nearest video encoders are 'slow_r50', 'slowfast_tiny'"
    assert hint("clip", ["b", "c"]) == "; there are b, c"
    assert hint("clip", [f"{number}" for number in range(100)]) == ""
    assert hint("clip", []) == "; there are none"


def test_a_long_name_takes_no_time():
    assert nearest("x" * 10**6, ENCODERS) == []
