import json
import os
from pathlib import Path

import numpy as np
import pytest

from mtl_d2.data.mixing.mixture import Mixture
from mtl_d2.data.mixing.sizes import input_sizes, order_by_bucket, padding_share, size_buckets
from mtl_d2.data.mixing.stream import ImageStream
from mtl_d2.testing import tiny_cfg


def test_input_sizes_are_those_after_crop_and_resizing():
    cfg = tiny_cfg(**{"INPUT.MIN_SIZE_TRAIN": (40, 64, 80), "INPUT.MAX_SIZE_TRAIN": 96})
    records = [{"height": 32, "width": 32}, {"height": 101, "width": 303}]
    assert input_sizes(cfg, records).tolist() == [[64, 64], [32, 96]]
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [101, 101]
    assert input_sizes(cfg, records).tolist() == [[64, 64], [64, 64]]
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.MIN_SIZE_TRAIN = False, ()
    assert input_sizes(cfg, records).tolist() == [[32, 32], [101, 303]]
    with pytest.raises(ValueError, match=r"SIZE_BUCKETS: found no 'height' and 'width' in the record of a.png"):
        input_sizes(cfg, [{"file_name": "a.png", "height": 3}])


def test_buckets_separate_the_shapes_that_differ_most():
    sizes = np.array([[100, 201], [203, 101], [99, 199], [200, 100], [100, 100], [401, 403]])
    assert size_buckets(sizes, 1).tolist() == [0] * 6
    for count in (4, 5, 9):
        buckets = size_buckets(sizes, count)
        assert len(set(buckets.tolist())) == min(count, 6)
        assert buckets[0] == buckets[2] or count > 4
        assert len({buckets[0], buckets[1], buckets[4], buckets[5]}) == 4
    assert size_buckets(np.full((5, 2), 33), 3).tolist() == [0] * 5


def test_batches_are_of_one_bucket_but_for_the_rests():
    buckets = np.random.default_rng(0).integers(0, 3, 60)
    order = order_by_bucket(buckets, 4)
    assert sorted(order) == list(range(60))
    mixed = [len(set(batch.tolist())) > 1 for batch in buckets[order].reshape(-1, 4)]
    assert sum(mixed) <= 3
    assert np.abs(np.sort(order.reshape(-1, 4).max(axis=1)) - order.reshape(-1, 4).max(axis=1)).max() == 0
    assert order_by_bucket(np.zeros(8, int), 2).tolist() == list(range(8))


def test_padding_is_the_share_of_the_pixels_of_no_image():
    sizes = np.array([[32, 64], [64, 32], [33, 33], [33, 33]])
    assert padding_share(sizes[:2], 2) == 0.5
    assert padding_share(sizes[2:], 2, divisibility=1) == 0
    assert padding_share(sizes, 2) == pytest.approx(1 - (2 * 32 * 64 + 2 * 33 * 33) / (4 * 64 * 64))


def test_buckets_save_most_of_the_padding_of_the_nuclei(record_property):
    path = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "nuclei/instances_train.json"
    if not path.exists():
        pytest.skip(f"{path} does not exist: the padding of nuclei is not measured")
    records = json.loads(path.read_text())["images"]
    sizes = np.array([[record["height"], record["width"]] for record in records])
    stream = ImageStream(np.arange(len(sizes)), seed=0)
    shares = []
    for buckets in (None, size_buckets(sizes, 4), size_buckets(sizes, 8)):
        mixture = Mixture([stream], [8000], 8, seed=0, buckets=buckets)
        shares.append(padding_share(sizes[mixture.compose_round(0)[:, 1]], 8))
    record_property("padding", shares)
    print("padding of nuclei in batches of 8 without buckets, with 4 and with 8:", *(f"{x:.1%}" for x in shares))
    assert shares[0] > 0.4
    assert shares[1] < shares[0] / 3
    assert shares[2] < shares[1]
