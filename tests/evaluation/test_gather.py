"""Two processes that share the images of a dataset report what one process reports that has them all."""

from functools import partial

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm

from mtl_d2.evaluation import EdgeEvaluator, InstanceEvaluator, PanopticEvaluator, SemSegEvaluator
from tests.evaluation.conftest import annotation, rectangle

SIZE = (12, 12)


@pytest.fixture
def dataset(register, save_label):
    mask = rectangle(*SIZE, 2, 2, 8, 8)
    records = [
        {
            "file_name": f"{i}.jpg",
            "image_id": i,
            "height": SIZE[0],
            "width": SIZE[1],
            "annotations": [annotation(mask)],
            "edge_source": "instance",
            "sem_seg_file_name": save_label(mask.astype(np.uint8)),
        }
        for i in range(3)
    ]
    name = register(records, thing_classes=["disk"], stuff_classes=["ground", "disk"], stuff_ids=[0], ignore_label=255)
    return name, records


def _output(shift):
    mask = rectangle(*SIZE, 2 + shift, 2, 8 + shift, 8)
    masks = torch.as_tensor(mask)[None]
    instances = Instances(SIZE, pred_boxes=BitMasks(masks).get_bounding_boxes(), scores=torch.ones(1))
    instances.pred_classes, instances.pred_masks = torch.zeros(1, dtype=torch.long), masks
    segments = [{"id": 1, "isthing": False, "category_id": 0}, {"id": 2, "isthing": True, "category_id": 0}]
    return {
        "instances": instances,
        "edge": torch.as_tensor(mask ^ rectangle(*SIZE, 3 + shift, 3, 7 + shift, 7)).float(),
        "sem_seg": torch.stack([~masks[0], masks[0]]).float(),
        "panoptic_seg": (masks[0].int() + 1, segments),
    }


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def _with_boundaries(evaluator_class):
    return partial(evaluator_class, boundary_width=0.1)


@pytest.mark.parametrize(
    "evaluator_class",
    [_with_boundaries(InstanceEvaluator), _with_boundaries(SemSegEvaluator), PanopticEvaluator, EdgeEvaluator],
)
def test_ranks_are_gathered(dataset, monkeypatch, tmp_path, evaluator_class):
    name, records = dataset
    outputs = [_output(shift) for shift in range(3)]
    whole, first, second = (evaluator_class(name, output_dir=str(tmp_path / x)) for x in ("whole", "first", "second"))
    whole.process(records, outputs)
    first.process(records[:1], outputs[:1])
    second.process(records[1:], outputs[1:])
    expected = whole.evaluate()
    assert isinstance(whole, (PanopticEvaluator, EdgeEvaluator)) or any(
        "boundary_" in name for figures in expected.values() for name in figures
    )

    sent = []
    with monkeypatch.context() as patch:
        patch.setattr(comm, "gather", lambda data: sent.append(data) or [])
        patch.setattr(comm, "is_main_process", lambda: False)
        assert second.evaluate() == {}
    monkeypatch.setattr(comm, "gather", lambda data: [data, *sent])
    results = first.evaluate()
    assert first.num_images == whole.num_images == 3
    assert results.keys() == expected.keys()
    for group, metrics in expected.items():
        assert results[group] == pytest.approx(metrics, nan_ok=True), group
    of_whole, of_first, of_second = (_files(tmp_path / x) for x in ("whole", "first", "second"))
    assert of_first == of_whole and of_second == {}
    assert bool(of_whole) == isinstance(whole, (InstanceEvaluator, EdgeEvaluator))
