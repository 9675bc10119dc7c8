"""Edge labels: nothing is timed unless they equal their definition."""

import pytest

from mtl_d2.benchmark import edge_label

SMALL = ("--size", "41", "53", "--objects", "6", "--rounds", "2")


def test_equal_labels_are_timed(run):
    status, record = run("edge_label", *SMALL, "--radius", "3")
    assert status == 0 and record["equal"] and len(record["checks"]) == len(record["comparisons"]) == 6
    assert all(set(c["seconds"]) == {"mapper", "definition"} for c in record["comparisons"])


def test_labels_that_differ_are_not(run, monkeypatch):
    monkeypatch.setattr(edge_label, "disc", edge_label.square)  # the corners of the square are too far away
    status, record = run("edge_label", *SMALL)
    assert status == 1 and record["comparisons"] == []
    assert {c["name"] for c in record["checks"] if c["difference"]} == {"radius, instance", "radius, union"}


@pytest.mark.parametrize("option", ["--objects", "--radius"])
def test_wrong_options_are_told(run, capsys, option):
    status, _ = run("edge_label", option, "0")
    assert status == 2 and f"{option} 0: expected 1 or more" in capsys.readouterr().err
