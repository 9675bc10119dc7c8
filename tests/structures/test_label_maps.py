"""One reader of label maps: ids as stored, and in the run's ids where a record says how."""

import numpy as np
import pytest
from PIL import Image

from mtl_d2.structures import LabelMapError, read_label_map, read_semantic_ids

IDS = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


def record(tmp_path, image: Image.Image, **keys) -> dict:
    image.save(tmp_path / "a.png")
    return {"sem_seg_file_name": str(tmp_path / "a.png"), **keys}


def test_a_palette_keeps_its_indices_and_one_bit_is_0_and_1(tmp_path):
    palette = Image.fromarray(IDS)
    palette.putpalette(bytes(range(255, -1, -1)) * 3)
    assert palette.mode == "P"
    np.testing.assert_array_equal(read_semantic_ids(record(tmp_path, palette)), IDS)
    found = read_semantic_ids(record(tmp_path, Image.fromarray(IDS > 0)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IDS > 0)


def test_ids_are_mapped_merged_and_dropped(tmp_path):
    found = read_semantic_ids(record(tmp_path, Image.fromarray(IDS), sem_seg_id_map={0: 3, 1: 255, 2: 3, 255: 255}))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[3, 255, 3], [255, 3, 3]])


def test_an_id_that_the_map_does_not_list_is_named_with_the_file(tmp_path):
    with pytest.raises(LabelMapError, match=r"a\.png: found the id 2, expected one of \[0, 1, 255\]"):
        read_semantic_ids(record(tmp_path, Image.fromarray(IDS), sem_seg_id_map={0: 0, 1: 1, 255: 255}))
    sixteen = Image.fromarray(IDS.astype(np.uint16) * 300)
    with pytest.raises(LabelMapError, match="found the id 300"):
        read_semantic_ids(record(tmp_path, sixteen, sem_seg_id_map={0: 0}))


def test_several_channels_are_no_label_map(tmp_path):
    path = record(tmp_path, Image.new("RGB", (3, 2)))["sem_seg_file_name"]
    with pytest.raises(LabelMapError, match=r"a\.png: found 3 channels"):
        read_label_map(path)
