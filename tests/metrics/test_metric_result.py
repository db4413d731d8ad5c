import json

from avlearn.metrics import MetricResult, table


def test_table_is_aligned_and_shows_the_references():
    lines = table(
        [
            MetricResult("sync", "2AFC", 0.951, 0.5, None, "", 1.0, 400),
            MetricResult("separation", "SI-SDRi", 10.771, -3.0, 0.0, "mixture", 22.5, 60, "dB"),
            MetricResult("sync", "median error", 18.2, 400.0, 80.0, "always in sync", 0.0, 9, "ms", False),
        ]
    ).splitlines()
    assert lines[0].split() == [
        "task",
        "metric",
        "value",
        "chance",
        "trivial",
        "prior",
        "oracle",
        "n",
    ]
    for column in ("value", "chance", "oracle"):
        at = lines[0].index(column)
        assert all(line[at - 1] == " " and line[at] != " " for line in lines[2:])
    assert "0.951" in lines[2] and "10.77 dB" in lines[3] and "0.00 dB (mixture)" in lines[3]
    assert "median error (lower is better)" in lines[4] and "18 ms" in lines[4]


def test_dict_is_json_and_keeps_every_field():
    values = json.loads(json.dumps(MetricResult("a", "b", float("inf"), n=3).to_dict(), allow_nan=False))
    assert values == {
        "task": "a", "name": "b", "value": None, "chance": None, "prior": None, "prior_name": "",
        "oracle": None, "n": 3, "unit": "", "higher_is_better": True, "interval": None,
    }  # fmt: skip


def test_an_interval_stands_behind_the_value():
    assert MetricResult("a", "b", 0.9, interval=(0.8512, 0.95)).cells()[2] == "0.900 [0.851 0.950]"
    assert MetricResult("a", "b", 18.2, unit="ms", interval=(9.6, 20.0)).cells()[2] == "18 ms [10 20]"
    assert MetricResult("a", "b", 0.9, interval=(0.5, float("inf"))).to_dict()["interval"] == [0.5, None]


def test_a_rounded_zero_has_no_sign():
    assert MetricResult("a", "b", -1e-6, unit="dB").cells()[2] == "0.00 dB"


def test_numbers_in_json_have_five_digits():
    values = MetricResult("a", "b", 0.12345678, chance=2.0, interval=(0.1111111, 1.0)).to_dict()
    assert (values["value"], values["chance"], values["interval"]) == (0.12346, 2.0, [0.11111, 1.0])
