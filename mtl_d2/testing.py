"""A toy dataset, a tiny config and random model inputs, for tests only."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints
from PIL import Image

from mtl_d2.config import add_mtl_config
from mtl_d2.structures.image_labels import multi_hot

ALL_TASKS = ("instance", "sem_seg", "edge")
TOY_THING_CLASSES = ("box", "bar")
# Background, the two things again as semantic classes, and a strip of "sky" along the top.
TOY_STUFF_CLASSES = ("ground", "box", "bar", "sky")
TOY_STUFF_IDS = (0, 3)
TOY_KEYPOINTS = ("top_left", "top_right", "middle")
TOY_SIGMAS = (0.1, 0.1, 0.1)


@contextmanager
def toy_dataset(
    num_images: int = 4,
    size: tuple[int, int] = (64, 64),
    *,
    labels: Sequence[str] | Sequence[Sequence[str]] = ALL_TASKS,
    edge_source: str = "union",
    max_instances: int = 4,
    seed: int = 0,
) -> Iterator[str]:
    """Draw rectangles into a temporary folder, register them as a dataset, and remove both at the end.

    Args:
        num_images: image ``i`` gets ``i % (max_instances + 1)`` rectangles at most, so that image 0 is empty.
        size: height and width in pixels of the first image; then (+3, -5), (+6, -10), and again.
        labels: the tasks that every image is labelled for, or one such sequence per image; with "classification" it
            is labelled as a whole, with the classes of its things; with "keypoint" the instances have the keypoints
            TOY_KEYPOINTS, of which the middle is on boxes alone.
        edge_source: "instance", "semantic" or "union"; an image without one of the two labels uses the other.
        max_instances: of one image.
        seed: of the drawing.

    Yields:
        The name of the dataset in DatasetCatalog and MetadataCatalog; ``image_root`` is in its metadata.
    """
    root = Path(tempfile.mkdtemp(prefix="mtl_d2_toy_"))
    name = f"mtl_d2_toy_{uuid.uuid4().hex[:8]}"
    per_image = _per_image(labels, num_images)
    rng = np.random.default_rng(seed)
    try:
        records = []
        for i in range(num_images):
            height, width = size[0] + 3 * (i % 3), size[1] - 5 * (i % 3)
            record = _draw_scene(root, i, (height, width), i % (max_instances + 1), rng)
            records.append(_with_labels(record, per_image[i], edge_source))
        DatasetCatalog.register(name, lambda: [dict(record) for record in records])
        MetadataCatalog.get(name).set(
            thing_classes=list(TOY_THING_CLASSES),
            stuff_classes=list(TOY_STUFF_CLASSES),
            image_label_classes=list(TOY_THING_CLASSES),
            stuff_ids=list(TOY_STUFF_IDS),
            thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
            ignore_label=255,
            edge_source=edge_source,
            max_dets=100,
            keypoint_names=list(TOY_KEYPOINTS),
            keypoint_flip_map=[TOY_KEYPOINTS[:2]],
            evaluator_type="mtl",
            image_root=str(root),
        )
        yield name
    finally:
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)
        shutil.rmtree(root, ignore_errors=True)


def _with_labels(record: dict[str, Any], labelled: Sequence[str], edge_source: str) -> dict[str, Any]:
    record = dict(record)
    if "classification" in labelled:
        record["image_labels"] = sorted({annotation["category_id"] for annotation in record["annotations"]})
    if "keypoint" in labelled:
        record["annotations"] = [{**a, "keypoints": _toy_keypoints(a)} for a in record["annotations"]]
    if "instance" not in labelled:
        del record["annotations"]
    if "sem_seg" not in labelled:
        del record["sem_seg_file_name"]
    if "edge" in labelled:
        if edge_source != "semantic" and "annotations" not in record:
            edge_source = "semantic"
        if edge_source != "instance" and "sem_seg_file_name" not in record:
            edge_source = "instance"
        record["edge_source"] = edge_source
    return record


def _toy_keypoints(annotation: dict[str, Any]) -> list[float]:
    x, y, width, height = annotation["bbox"]
    middle = [x + width / 2, y + height / 2, 2] if annotation["category_id"] == 0 else [0, 0, 0]
    return [*(x, y, 2), *(x + width, y, 1), *middle]


def _draw_scene(
    root: Path, index: int, size: tuple[int, int], num_instances: int, rng: np.random.Generator
) -> dict[str, Any]:
    height, width = size
    image = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    sem_seg = np.zeros((height, width), np.uint8)
    image[:8] += np.uint8(100)
    sem_seg[:8] = 3
    sem_seg[-4:, -4:] = 255
    annotations = []
    # One rectangle per column band, so that they never overlap.
    band = width // max(num_instances, 1)
    for k in range(num_instances):
        category = int(rng.integers(0, len(TOY_THING_CLASSES)))
        x0, y0 = band * k + int(rng.integers(1, 4)), int(rng.integers(10, height // 2))
        x1, y1 = band * (k + 1) - 1, y0 + int(rng.integers(8, height // 2 - 4))
        image[y0:y1, x0:x1] = (200, 60, 60) if category == 0 else (60, 60, 200)
        sem_seg[y0:y1, x0:x1] = category + 1
        annotations.append(
            {
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": category,
                "segmentation": [[float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]],
                "iscrowd": 0,
            }
        )
    file_name, sem_seg_file_name = root / f"{index:03d}.png", root / f"{index:03d}_semantic.png"
    Image.fromarray(image).save(file_name)
    Image.fromarray(sem_seg).save(sem_seg_file_name)
    return {
        "file_name": str(file_name),
        "height": height,
        "width": width,
        "image_id": index,
        "annotations": annotations,
        "sem_seg_file_name": str(sem_seg_file_name),
    }


def tiny_cfg(tasks: Sequence[str] = ALL_TASKS, dataset: str | None = None, **overrides: Any) -> CfgNode:
    """Return a config of a network that trains on a CPU in a fraction of a second per step, seed fixed.

    Args:
        tasks: MODEL.MTL.TASKS.
        dataset: the name for DATASETS.TRAIN and DATASETS.TEST.
        overrides: dotted keys, as in ``tiny_cfg(**{"SOLVER.MAX_ITER": 3})``.
    """
    cfg = get_cfg()
    add_mtl_config(cfg)
    cfg.merge_from_list(_TINY)
    cfg.MODEL.MTL.TASKS = list(tasks)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(TOY_THING_CLASSES)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(TOY_STUFF_CLASSES)
    cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = len(TOY_THING_CLASSES)
    if dataset is not None:
        cfg.DATASETS.TRAIN = (dataset,)
        cfg.DATASETS.TEST = (dataset,)
    cfg.merge_from_list([part for pair in overrides.items() for part in pair])
    return cfg


# Group norm has 32 groups in Detectron2, and keeps the images of a batch independent of each other.
_TINY = [
    *("MODEL.META_ARCHITECTURE", "MultiTaskFPN", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "GN"),
    *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]]),
    *("MODEL.PROPOSAL_GENERATOR.NAME", "MultiTaskRPN"),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.PRE_NMS_TOPK_TEST", 100),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.ROI_HEADS.NAME", "MultiTaskROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 4),
    *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7),
    *("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", len(TOY_KEYPOINTS), "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16]),
    *("MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION", 7, "TEST.KEYPOINT_OKS_SIGMAS", list(TOY_SIGMAS)),
    *("MODEL.SEM_SEG_HEAD.NAME", "MultiTaskSemSegFPNHead", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    *("MODEL.MTL.EDGE_HEAD.CONVS_DIM", 32, "MODEL.MTL.EDGE_HEAD.STEM_DIM", 8),
    *("INPUT.MASK_FORMAT", "bitmask", "INPUT.RANDOM_FLIP", "horizontal"),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MAX_SIZE_TRAIN", 96),
    *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
    *("DATALOADER.NUM_WORKERS", 0, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, "SEED", 1),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.01),
    *("SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 0, "TEST.DETECTIONS_PER_IMAGE", 10),
]


def random_batched_inputs(
    num_images: int = 2,
    *,
    sizes: Sequence[tuple[int, int]] = ((61, 83), (70, 65), (96, 64)),
    tasks: Sequence[str] | Sequence[Sequence[str]] = ALL_TASKS,
    num_classes: int = len(TOY_THING_CLASSES),
    num_sem_classes: int = len(TOY_STUFF_CLASSES),
    num_instances: int | Sequence[int] = 3,
    num_keypoints: int = len(TOY_KEYPOINTS),
    masks: bool = True,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return model inputs in the mapper's form, with random content.

    Args:
        num_images: N.
        sizes: height and width of the images in turn; odd and unequal by default.
        tasks: the tasks that every image is labelled for, or one such sequence per image (() for none).
        num_classes: K of the instances, and of the labels of whole images, which are the classes of the instances.
        num_sem_classes: K of the semantic labels; a tenth of their pixels is 255 (ignored).
        num_instances: of every image, or one number per image; 0 gives a labelled image with nothing there.
        num_keypoints: K of the keypoints, random points in each box; the last one is not labelled.
        masks: whether the instances have ``gt_masks`` (the ellipse in each box).
        seed: of a generator of its own; global random state is left alone.
    """
    rng = np.random.default_rng(seed)
    counts = [num_instances] * num_images if isinstance(num_instances, int) else list(num_instances)
    batch = []
    for i, labelled in enumerate(_per_image(tasks, num_images)):
        height, width = sizes[i % len(sizes)]
        image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
        item: dict[str, Any] = {"file_name": f"random_{i}.png", "image_id": i}
        item.update(height=height, width=width, image=image)
        # Every label is drawn, given or not: an image is the same whatever it is labelled for.
        instances = _random_instances((height, width), counts[i], num_classes, rng)
        if not masks:
            instances.remove("gt_masks")
        sem_seg = _random_sem_seg(height, width, num_sem_classes, rng)
        if "instance" in labelled:
            item["instances"] = instances
        if "keypoint" in labelled:
            item["keypoints"] = _random_keypoints(instances, num_keypoints, seed + i)
        if "sem_seg" in labelled:
            item["sem_seg"] = sem_seg
        if "edge" in labelled:
            item["edge"] = _changes(sem_seg)
        if "classification" in labelled:
            classes = instances.gt_classes.tolist()
            item["image_labels"] = torch.from_numpy(multi_hot(classes, num_classes))
        batch.append(item)
    return batch


def _random_instances(size: tuple[int, int], count: int, num_classes: int, rng: np.random.Generator) -> Instances:
    height, width = size
    side = rng.uniform(8, min(height, width) / 2, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - side)
    boxes = torch.from_numpy(np.concatenate([corner, corner + side], axis=1).astype(np.float32))
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes.reshape(-1, 4))
    instances.gt_classes = torch.from_numpy(rng.integers(0, num_classes, count))
    x0, y0, x1, y1 = boxes.reshape(-1, 4).T[:, :, None, None]
    x, y = torch.arange(width)[None, None, :] + 0.5, torch.arange(height)[None, :, None] + 0.5
    dx, dy = (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)
    instances.gt_masks = BitMasks(dx**2 + dy**2 <= 1)
    return instances


def _random_keypoints(instances: Instances, count: int, seed: int) -> Keypoints:
    boxes = instances.gt_boxes.tensor
    points = torch.rand(len(boxes), count, 3, generator=torch.Generator().manual_seed(seed))
    points[..., :2] = boxes[:, None, :2] + points[..., :2] * (boxes[:, None, 2:] - boxes[:, None, :2])
    points[..., 2] = 2
    points[:, -1] = 0
    return Keypoints(points)


def _random_sem_seg(height: int, width: int, num_classes: int, rng: np.random.Generator) -> torch.Tensor:
    cells = rng.integers(0, num_classes, (-(-height // 16), -(-width // 16)))
    sem_seg = np.kron(cells, np.ones((16, 16), np.int64))[:height, :width]
    sem_seg[rng.random((height, width)) < 0.1] = 255
    return torch.from_numpy(np.ascontiguousarray(sem_seg))


def _changes(sem_seg: torch.Tensor) -> torch.Tensor:
    """Return 1 where a valid pixel differs from its valid right neighbour, 255 where either is ignored."""
    left, right = sem_seg[:, :-1], sem_seg[:, 1:]
    edge = torch.zeros_like(sem_seg)
    edge[:, :-1] = (left != right).long()
    edge[:, :-1][(left == 255) | (right == 255)] = 255
    return edge


def _per_image(tasks: Sequence[str] | Sequence[Sequence[str]], num_images: int) -> list[tuple[str, ...]]:
    if all(isinstance(task, str) for task in tasks):
        return [tuple(tasks)] * num_images  # type: ignore[arg-type]
    if len(tasks) != num_images:
        raise ValueError(f"Found labels for {len(tasks)} images, expected one for each of {num_images}.")
    return [tuple(labelled) for labelled in tasks]
