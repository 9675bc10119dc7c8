"""What build_mixture makes of a config: shares, quota and buckets together, on records without files."""

import logging
from collections import Counter

import numpy as np
import pytest

from mtl_d2.data.mixing import build_mixture
from mtl_d2.testing import tiny_cfg

KEYS = {
    "instance": {"annotations": [{"category_id": 0}]},
    "sem_seg": {"sem_seg_file_name": "a.png"},
    "edge": {"edge_file_name": "a.png"},
}
ALL = tuple(KEYS)


def make_records(*parts):
    """Records of (number, tasks) each, and the datasets that they are of."""
    records, datasets = [], []
    for dataset, (number, tasks) in enumerate(parts):
        label = {key: value for task in tasks for key, value in KEYS[task].items()}
        records += [{"file_name": "a.png", "height": 64, "width": 64, **label} for _ in range(number)]
        datasets += [dataset] * number
    return records, np.array(datasets)


def build(parts, batch_size, seed=0, names=None, tasks=None, **options):
    tasks = tasks or [task for task in ALL if any(task in labels for _, labels in parts)]
    names = names or tuple(f"d{i}" for i in range(len(parts)))
    overrides = {f"DATALOADER.MTL.{key}": value for key, value in options.items() if key != "TASK_RATIOS"}
    cfg = tiny_cfg(tasks, **{"DATASETS.TRAIN": names, "SEED": seed, **overrides})
    for task, ratio in options.get("TASK_RATIOS", {}).items():
        cfg.DATALOADER.MTL.TASK_RATIOS[task] = ratio
    return build_mixture(cfg, *make_records(*parts), batch_size)


def indices(mixture, count, start=0):
    return np.array([[key[1] for key in mixture(k)] for k in range(start, start + count)])


def test_by_default_batches_are_the_permutations_one_after_the_other():
    mixture = build([(5, ALL), (8, ("edge",))], 4, seed=3)
    order = [(epoch, i) for epoch in range(4) for i in np.random.default_rng((3, epoch)).permutation(13).tolist()]
    assert [key for k in range(13) for key in mixture(k)] == order


def test_datasets_come_by_their_ratios_and_every_image_as_often_as_its_neighbours():
    parts = [(100, ALL), (7, ALL), (300, ALL)]
    mixture = build(parts, 6, DATASET_RATIOS=[1, 1, 2])
    rounds = mixture.batches_per_round
    drawn = Counter(indices(mixture, 2 * rounds).ravel().tolist())
    datasets = make_records(*parts)[1]
    total = 6 * rounds * 2
    for dataset, share in enumerate((0.25, 0.25, 0.5)):
        seen = [drawn[i] for i in np.flatnonzero(datasets == dataset).tolist()]
        assert sum(seen) == pytest.approx(share * total, abs=2)
        assert max(seen) - min(seen) <= 1  # a dataset's images come in turn
        assert min(seen) > 0


def test_a_task_comes_by_its_ratio_and_the_others_keep_theirs_among_themselves():
    parts = [(90, ("instance",)), (9, ("sem_seg",)), (1, ("sem_seg", "edge"))]
    mixture = build(parts, 5, TASK_RATIOS={"edge": 0.2})
    drawn = np.bincount(indices(mixture, mixture.batches_per_round).ravel(), minlength=100)
    shares = np.array([drawn[:90].sum(), drawn[90:99].sum(), drawn[99]]) / drawn.sum()
    assert shares == pytest.approx([0.8 * 90 / 99, 0.8 * 9 / 99, 0.2], abs=2e-3)


@pytest.mark.parametrize(
    ("parts", "batch_size", "steps", "options"),
    [
        ([(499, ("instance", "sem_seg")), (1, ALL)], 2, 10, {}),
        ([(499, ("instance",)), (1, ("edge",)), (600, ("sem_seg",))], 3, 1, {}),
        ([(499, ("instance",)), (1, ("edge",)), (600, ("sem_seg", "edge"))], 4, 7, {"DATASET_RATIOS": [3, 1, 2]}),
        ([(250, ("sem_seg",)), (251, ALL), (3, ("edge",))], 5, 3, {"UNDERSAMPLE_EMPTY": 0.5}),
        ([(40, ("instance",)), (2, ("sem_seg",))], 2, 1, {}),
        ([(30, ("instance", "edge")), (1, ("sem_seg",)), (9, ())], 7, 10_000, {"SIZE_BUCKETS": 3}),
    ],
)
def test_every_task_has_a_labelled_image_in_every_so_many_of_10000_batches(parts, batch_size, steps, options):
    mixture = build(parts, batch_size, TASK_QUOTA_STEPS=steps, **options)
    records, _ = make_records(*parts)
    drawn = indices(mixture, 10_000)
    for task in {task for _, tasks in parts for task in tasks}:
        label = np.array([bool(set(KEYS[task]) & set(record)) for record in records])
        has = np.flatnonzero(label[drawn].any(axis=1))
        gaps = np.diff(np.concatenate([[-1], has, [10_000]]))
        assert gaps.max() <= steps, task
    assert len(np.unique(drawn)) == len(records)


def test_a_quota_draws_a_rare_task_no_more_often_than_it_must():
    mixture = build([(499, ("instance", "sem_seg")), (1, ALL)], 4, TASK_QUOTA_STEPS=5)
    drawn = indices(mixture, mixture.batches_per_round)
    assert (drawn == 499).mean() == pytest.approx(1 / 20, abs=1e-3)
    assert ((drawn == 499).any(axis=1)).mean() == pytest.approx(1 / 5, abs=1e-2)


def test_buckets_quota_and_ratios_hold_together():
    cfg = tiny_cfg(**{"DATASETS.TRAIN": ("a", "b"), "INPUT.MIN_SIZE_TRAIN": ()})
    mtl = cfg.DATALOADER.MTL
    mtl.DATASET_RATIOS, mtl.TASK_QUOTA_STEPS, mtl.SIZE_BUCKETS = [1, 3], 4, 2
    records, datasets = make_records((333, ("instance", "edge")), (101, ("sem_seg",)))
    rng = np.random.default_rng(0)
    for record, wide in zip(records, rng.random(434) < 0.3, strict=True):
        record.update({"height": 61, "width": 183} if wide else {"height": 97, "width": 65})
    mixture = build_mixture(cfg, records, datasets, 8)
    drawn = indices(mixture, mixture.batches_per_round)
    assert datasets[drawn].mean() == pytest.approx(0.75, abs=1e-3)
    assert (datasets[drawn] == 0).any(axis=1)[::4].all() and (datasets[drawn] == 1).any(axis=1)[::4].all()
    wide = np.array([record["width"] == 183 for record in records])[drawn]
    assert (wide.all(axis=1) | ~wide.any(axis=1)).mean() > 0.9


def test_any_batch_can_be_asked_for_first():
    options = {"DATASET_RATIOS": [1, 2], "TASK_QUOTA_STEPS": 3, "SIZE_BUCKETS": 2, "UNDERSAMPLE_EMPTY": 0.3}
    parts = [(50, ("instance",)), (77, ("sem_seg", "edge"))]
    mixture, other = build(parts, 4, **options), build(parts, 4, **options)
    whole = [mixture(k) for k in range(3 * mixture.batches_per_round // 2)]
    for k in (len(whole) - 1, 0, mixture.batches_per_round, mixture.batches_per_round - 1, 5):
        assert other(k) == whole[k]
    assert len(other(10**12)) == 4
    assert build(parts, 4, seed=1, **options)(0) != whole[0]
    keys = [key for batch in whole for key in batch]
    assert len(set(keys)) == len(keys)


def test_the_log_tells_what_a_batch_has(caplog):
    with caplog.at_level(logging.INFO, logger="mtl_d2.data.mixing.build"):
        build([(30, ("instance", "edge")), (10, ("sem_seg",))], 8, names=("cars", "roads"), DATASET_RATIOS=[1, 3])
    assert caplog.messages == [
        "Training on 40 images: cars 30 (instance 30, sem_seg 0, edge 30); roads 10 (instance 0, sem_seg 10, edge 0).",
        "Of the 8 images of a batch in the mean: instance 2, sem_seg 6, edge 2, cars 2, roads 6.",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"DATASET_RATIOS": [1]}, r"DATASET_RATIOS: found \[1\], expected a number above 0 for each of .*\(d0, d1\)"),
        ({"DATASET_RATIOS": [1, 0]}, r"DATASET_RATIOS: found \[1, 0\]"),
        ({"DATASET_RATIOS": ["1", "2"]}, r"DATASET_RATIOS: found \['1', '2'\]"),
        ({"TASK_RATIOS": {"depth": 0.5}}, "TASK_RATIOS: found the task 'depth', expected one of"),
        ({"TASK_RATIOS": {"edge": 1.5}}, "TASK_RATIOS.edge: found 1.5"),
        ({"TASK_RATIOS": {"edge": 0.9}, "DATASET_RATIOS": [1, 1]}, "relax one of them"),
        ({"TASK_QUOTA_STEPS": -1}, "TASK_QUOTA_STEPS: found -1"),
        ({"TASK_QUOTA_STEPS": 2, "DATASET_RATIOS": [1, 99]}, "TASK_QUOTA_STEPS 2 with 4 images a batch"),
        ({"SIZE_BUCKETS": -2}, "SIZE_BUCKETS: found -2"),
        ({"UNDERSAMPLE_EMPTY": 0.0}, "UNDERSAMPLE_EMPTY: found 0.0"),
        ({"UNDERSAMPLE_FREQUENT": 1.5}, "UNDERSAMPLE_FREQUENT: found 1.5"),
    ],
)
def test_a_wrong_setting_is_named(options, message):
    with pytest.raises(ValueError, match=f"^DATALOADER.MTL.*{message}"):
        build([(10, ("instance", "sem_seg")), (10, ("sem_seg", "edge"))], 4, **options)


def test_a_frequent_class_is_no_rare_one():
    cfg = tiny_cfg(**{"DATALOADER.REPEAT_THRESHOLD": 0.5, "DATALOADER.MTL.UNDERSAMPLE_FREQUENT": 0.1})
    with pytest.raises(ValueError, match=r"UNDERSAMPLE_FREQUENT: found 0.1, expected at least .* 0.5"):
        build_mixture(cfg, *make_records((3, ALL)), 1)


def test_images_of_one_size_have_no_buckets():
    options = {"DATALOADER.MTL.SIZE_BUCKETS": 3, "INPUT.MTL.LSJ.ENABLED": True}
    with pytest.raises(ValueError, match="SIZE_BUCKETS: found 3 with INPUT.MTL.LSJ.ENABLED, .*; set SIZE_BUCKETS 0"):
        build_mixture(tiny_cfg(**options), *make_records((3, ALL)), 1)


def test_a_batch_too_small_for_the_quota_is_refused():
    parts = [(5, ("instance",)), (5, ("sem_seg",)), (5, ("edge",))]
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH: found 2, expected at least 3"):
        build(parts, 2, TASK_QUOTA_STEPS=5)
    with pytest.raises(ValueError, match="no image that is labelled for 'edge'"):
        build(parts[:2], 4, tasks=ALL, TASK_QUOTA_STEPS=5)
    build([(5, ALL)], 1, TASK_QUOTA_STEPS=5)  # all images have all labels: the quota always holds
