"""What is reported of edge labels from files."""

import numpy as np
import pytest
from PIL import Image

from mtl_d2.data.check.files import check_edges


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((0, 1), []),
        ((0, 255), []),
        ((0,), []),
        ((0, 1, 7), ["holds the value 7"]),
        ((0, 1, 255), ["holds 1 and 255, both of which are edges: a file cannot have a pixel ignored"]),
    ],
)
def test_an_edge_label_has_one_value_of_edges(tmp_path, values, found):
    pixels = np.zeros((20, 30), np.uint8)
    pixels[::6] = np.resize(values, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = {"edge_file_name": str(tmp_path / "a.png"), "height": 20, "width": 30}
    assert [problem.found for problem in check_edges(record)] == found
