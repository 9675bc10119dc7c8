"""tools/edge_floor.py: gradient edges of a dataset are scored and recorded; wrong input is one sentence."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

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


def test_gray_images_of_16_bits_score_as_those_of_8(tmp_path):
    with toy_dataset(3, edge_source="instance") as name:
        files = [record["file_name"] for record in DatasetCatalog.get(name)]
        grays = [np.asarray(Image.open(file).convert("L")) for file in files]
        scores = []
        for bits in (8, 16):
            for file, gray in zip(files, grays, strict=True):
                Image.fromarray(gray if bits == 8 else gray.astype(np.uint16) << 8).save(file)
            assert main([name, "--workers", "1", "--output", str(tmp_path / str(bits))]) == 0
            scores.append(read_record(tmp_path / str(bits) / "report.json").results["edge"])
    assert scores[0] == scores[1] and scores[0]["ODS"] > 0.1


def test_wrong_input_is_one_sentence(capsys):
    with toy_dataset(2, labels=("sem_seg",)) as unlabelled, toy_dataset(1) as labelled:
        for words, sentence in (
            ([unlabelled], f"no image of {unlabelled} has an edge label: its records need edge_source."),
            ([labelled, "--max-dist", "2"], "max_dist must be a fraction of the image diagonal"),
            ([labelled, "--sigma", "-1"], "sigma must be 0 or a width in pixels, found -1.0."),
        ):
            assert main(words) == 2
            assert capsys.readouterr().err.startswith(f"edge_floor.py: {sentence}")
    with pytest.raises(SystemExit):
        main(["nuclei_val", "--num-images", "0"])
    assert "--num-images 0: expected 1 or more" in capsys.readouterr().err
