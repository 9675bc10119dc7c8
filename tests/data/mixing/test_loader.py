"""Mixed batches through the loader: workers, ranks and resumption change nothing."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.utils import comm

from mtl_d2.data import build_multitask_train_loader
from mtl_d2.engine.launch import launch
from mtl_d2.testing import ALL_TASKS, tiny_cfg, toy_dataset

OPTIONS = {
    "INPUT.MIN_SIZE_TRAIN": (40, 48, 56),
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "relative_range",
    "INPUT.CROP.SIZE": [0.6, 0.6],
    "INPUT.MTL.INVERT_PROB": 0.5,
    "SOLVER.IMS_PER_BATCH": 4,
    "DATALOADER.REPEAT_THRESHOLD": 0.9,
    "DATALOADER.MTL.DATASET_RATIOS": [1, 2],
    "DATALOADER.MTL.TASK_QUOTA_STEPS": 3,
    "DATALOADER.MTL.SIZE_BUCKETS": 2,
    "DATALOADER.MTL.UNDERSAMPLE_EMPTY": 0.5,
    "MODEL.MTL.SEM_SEG_HEAD.PIXELS_PER_CLASS": 300,
}
BATCHES, START = 8, 5


@contextmanager
def mixed_cfg(**overrides) -> Iterator[CfgNode]:
    labels = [ALL_TASKS, ("instance",), ("sem_seg", "edge"), ("instance", "edge"), ("sem_seg",)]
    with toy_dataset(5, labels=labels, size=(65, 83)) as first, toy_dataset(3, seed=1, size=(91, 63)) as second:
        yield tiny_cfg(**{**OPTIONS, "DATASETS.TRAIN": (first, second), **overrides})


def digest(batch: list[dict]) -> list[str]:
    """A hash for each sample, of the image and every label."""
    return [_digest_sample(sample) for sample in batch]


def _digest_sample(sample: dict) -> str:
    result = hashlib.sha256()
    for key in sorted(sample):
        value = sample[key]
        fields = value.get_fields() if isinstance(value, Instances) else {"": value}
        for name in sorted(fields):
            tensor = getattr(fields[name], "tensor", fields[name])
            if isinstance(tensor, torch.Tensor):
                result.update(f"{key} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                result.update(tensor.contiguous().numpy().tobytes())
    return result.hexdigest()


def digests(cfg: CfgNode, count: int, start: int = 0) -> list[list[str]]:
    return [digest(batch) for batch in islice(build_multitask_train_loader(cfg, start_batch=start), count)]


def test_two_workers_and_a_resumed_run_give_the_same_images_and_labels() -> None:
    with mixed_cfg() as cfg:
        alone = digests(cfg, BATCHES)
        cfg.DATALOADER.NUM_WORKERS = 2
        assert digests(cfg, BATCHES) == alone
        assert digests(cfg, BATCHES - START, START) == alone[START:]
    assert len({sample for batch in alone for sample in batch}) == 4 * BATCHES  # repeats are augmented differently


def test_the_repeats_of_an_image_within_an_epoch_are_augmented_differently() -> None:
    # Image 1 is the one of three with an object: its class comes in a third of the images.
    with toy_dataset(3, max_instances=1, size=(83, 91)) as name:
        overrides = {"DATASETS.TRAIN": (name,), "DATALOADER.MTL.DATASET_RATIOS": [], "DATALOADER.REPEAT_THRESHOLD": 1.0}
        with mixed_cfg(**overrides, **{"DATALOADER.MTL.TASK_QUOTA_STEPS": 0, "SOLVER.IMS_PER_BATCH": 1}) as cfg:
            loader = build_multitask_train_loader(cfg)
            samples = [(batch[0]["image_id"], digest(batch)[0]) for batch in islice(loader, 12)]
    repeated = [sample for image, sample in samples if image == 1]
    assert len(repeated) > 4
    assert len(set(repeated)) == len(repeated)


def _write_digests(folder: str) -> None:
    with mixed_cfg(**{"DATALOADER.NUM_WORKERS": 2, "DATALOADER.MTL.REPEAT_SEM_SEG": True}) as cfg:
        found = [digests(cfg, BATCHES), digests(cfg, BATCHES - START, START)]
    (Path(folder) / f"{comm.get_rank()}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_the_parts_of_two_processes_are_the_global_batch_resumed_or_not(tmp_path: Path) -> None:
    launch(_write_digests, 2, args=(str(tmp_path),), device="cpu")
    (first, first_resumed), (second, second_resumed) = (
        json.loads((tmp_path / f"{r}.json").read_text()) for r in (0, 1)
    )
    with mixed_cfg(**{"DATALOADER.MTL.REPEAT_SEM_SEG": True}) as cfg:
        whole = digests(cfg, BATCHES)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole
    assert not {s for batch in first for s in batch} & {s for batch in second for s in batch}
    assert (first_resumed, second_resumed) == (first[START:], second[START:])
