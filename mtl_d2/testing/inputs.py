"""Random model inputs in the mapper's form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints

from ..structures.image_labels import multi_hot
from .toy_labels import ALL_TASKS, TOY_KEYPOINTS, TOY_STUFF_CLASSES, TOY_THING_CLASSES, per_image


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
    for i, labelled in enumerate(per_image(tasks, num_images)):
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
