"""tools/edge_floor.py: gradient edges of a dataset are scored and recorded; wrong input is one sentence."""

import runpy
from pathlib import Path

import pytest

from mtl_d2.engine.record import read_record
from mtl_d2.testing import toy_dataset

main = runpy.run_path(str(Path(__file__).parents[2] / "tools/edge_floor.py"))["main"]


@pytest.mark.parametrize("detector", ["sobel", "canny"])
def test_gradient_edges_are_scored_and_recorded(detector, tmp_path):
    with toy_dataset(4, max_instances=2, edge_source="instance") as name:
        words = [name, "--detector", detector, "--sigma", "1", "--workers", "1"]
        assert main([*words, "--output", str(tmp_path), "--num-images", "3"]) == 0
    record = read_record(tmp_path / "report.json")
    assert record.images == {"edge": 3} and record.config == f"{detector} {name}, sigma 1"
    assert 0.3 < record.results["edge"]["ODS"] <= 1 and "ODS_crisp" in record.results["edge"]


def test_wrong_input_is_one_sentence(capsys):
    with toy_dataset(2, labels=("sem_seg",)) as name:
        assert main([name]) == 2
        assert capsys.readouterr().err == (
            f"edge_floor.py: no image of {name} has an edge label: its records need edge_source.\n"
        )
        assert main([name, "--max-dist", "2"]) == 2
        assert "max_dist must be a fraction" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["nuclei_val", "--sigma", "-1"])
    assert "--sigma: expected 0 or more" in capsys.readouterr().err
