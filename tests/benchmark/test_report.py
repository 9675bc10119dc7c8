"""What a benchmark prints and writes."""

import json

import pytest

from mtl_d2.benchmark.equality import Check
from mtl_d2.benchmark.report import Findings, compare, render, write_findings


def _findings(difference=0.0, **options):
    seconds = {"joint": [3.0, 3.0, 6.0], "first": [2.0, 2.0, 2.0], "second": [2.0, 2.0, 4.0]}
    comparison = compare("step", seconds, images=6, flops={"joint": 6, "first": 4, "second": 8}, **options)
    check = Check(name="answers", difference=difference, tolerance=1e-5)
    return Findings(device="cpu", rounds=3, seed=0, setting={"images": "6"}, checks=[check], comparisons=[comparison])


def test_ratio_and_floor_are_over_the_sum_of_the_others():
    (comparison,) = _findings().comparisons
    assert comparison.ratio.value == 3.0 / 4.0
    assert comparison.flop_floor == 0.5


@pytest.mark.parametrize(("goal", "verdict"), [(1.0, "1.00 met"), (0.75, "0.75 open"), (0.74, "0.74 missed")])
def test_table_has_ratio_floor_goal_and_images_per_second(goal, verdict):
    table = render(_findings(goal=goal))
    for cell in ("joint / first + second", "0.750 [", "0.500", verdict, "3000.0", "2.00"):
        assert cell in table
    assert "peak MiB" not in table


def test_table_has_the_peak_memory_of_a_gpu():
    table = render(_findings(peak_memory_mib={"joint": 111.4, "first": 50, "second": 60}))
    assert "peak MiB" in table and "111" in table


def test_what_differs_is_named_and_no_time_is_given():
    table = render(_findings(difference=0.1))
    assert "NO" in table and "Nothing was timed" in table and "0.750" not in table


def test_record_says_what_was_run_on_what(tmp_path):
    findings = _findings(difference=float("inf"))
    command = ["tools/benchmark.py", "joint", "--quick"]
    write_findings(tmp_path / "deep/record.json", "joint", findings, command, ("abc", True))
    record = json.loads((tmp_path / "deep/record.json").read_text())
    assert record["equal"] is False and record["checks"][0]["difference"] is None
    assert record["comparisons"][0]["ratio"]["value"] == 0.75
    assert record["command"] == "python tools/benchmark.py joint --quick"
    assert record["device"].startswith("cpu, ") and (record["commit"], record["dirty"]) == ("abc", True)
    assert {"threads", "torch", "detectron2", "finished", "rounds", "seed"} <= record.keys()
