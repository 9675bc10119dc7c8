"""One call from images to answers."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from torch import Tensor

from ..data import DatasetError, resolve_dataset
from ..data.images import convert_array, read_image
from ..data.transforms import build_augmentations
from ..engine.checkpoint import LoadReport, load_weights
from ..engine.defaults import check_device, setup_cfg
from .memory import GIB, answer_bytes, check_whole
from .network_input import Size, find_test_size, make_input
from .tiled import TILED_ANSWERS, predict_tiled
from .tiling import Tiling, check_tile
from .tta import DEFAULT_SCALES, TestTimeAugmentation

logger = logging.getLogger(__name__)

Image = str | os.PathLike | np.ndarray
MAX_PIXELS = 2**31  # of a file that is read for tiles: 46,000 x 46,000


class Predictor:
    """A trained network that answers about images as evaluation does, whatever their kind and size.

    ``predictor(image)`` gives one dict, ``predictor([image, ...])`` a list of them, on the CPU, at each image's own
    resolution, with the keys of :meth:`mtl_d2.MultiTaskFPN.inference`. An image is a path, or an array: (H, W, 3)
    in BGR as in Detectron2's ``DefaultPredictor``, (H, W, 4) BGRA or (H, W) gray, uint8 or uint16. Images are
    resized as the config resizes test images. Only images that the network sees at one size share a batch, so
    that no answer depends on the other images.

    **Tiles.** With ``tile``, an image with a longer side is cut into squares of ``tile`` pixels, of which each is
    resized as the config resizes an image of that size. Where ``H * W * (4 K + R + 8)`` bytes (K semantic classes, R
    TEST.DETECTIONS_PER_IMAGE, for all tasks) fit into ``memory_limit`` the answer has the usual form. Above, it is
    compact: ``sem_seg`` is a label map (H, W) uint8 (int16 above 256 classes), ``edge`` float16, and ``instances`` has
    ``pred_box_masks`` (:class:`mtl_d2.structures.BoxMasks`), also wherever N of them would take more than the limit
    as (N, H, W). A compact answer then takes, beside the network and some tens of MiB on the way, main memory of::

        10 H W                        image (3), labels (1), edges (2), panoptic map (4)
        + 4 (K + 1) T W               one row of tiles of T pixels, blended
        + B T^2 (4 K + R + 12)        the answers about B = batch_size tiles
        + the areas of the instances' boxes, a byte a pixel

    and, before, some 11 H W while a file is unpacked. Limits of the config, such as TEST.DETECTIONS_PER_IMAGE and the
    numbers of proposals, hold for each tile. An overlap of four times the radius that the network sees from a pixel
    makes dense answers equal to those about the whole image. An instance no larger than the overlap is whole in some
    tile; larger ones are joined where they agree in the overlap, with an overlap of 0 nowhere.

    Args:
        cfg: a config, or the path of its yaml file. Its datasets need not be there; without the description of one, a
            warning says what is not known.
        weights: a checkpoint, or a name that ``MODEL.WEIGHTS`` may have, which is taken by default.
        tasks: what is answered by default; all of the config's.
        device: such as "cpu"; the config's by default.
        batch_size: images, or tiles, of one size that go through the network together.
        tile: side in pixels of the image, rounded up to the network's stride; None for whole images alone.
        tile_overlap: least overlap in pixels; a quarter of a tile by default.
        tta: average over sizes and mirror images: True for 3/4, 1 and 5/4 of the test size, or such factors.
        memory_limit: bytes of main memory for an answer, 8 GiB by default; see above.

    Raises:
        ValueError: the config lacks a task, the weights lack its head, or there are no weights.
        FileNotFoundError: no such config.
        WeightsError: no such weights, or none that can be read safely.
    """

    def __init__(
        self,
        cfg: CfgNode | str | os.PathLike,
        weights: str | os.PathLike | None = None,
        *,
        tasks: Sequence[str] | None = None,
        device: str | None = None,
        batch_size: int = 1,
        tile: int | None = None,
        tile_overlap: int | None = None,
        tta: bool | Sequence[float] = False,
        memory_limit: int = 8 * GIB,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected 1 or more.")
        self.cfg = cfg.clone() if isinstance(cfg, CfgNode) else setup_cfg(os.fspath(cfg))
        self.cfg.defrost()
        self.cfg.MODEL.DEVICE = device or self.cfg.MODEL.DEVICE
        check_device(self.cfg.MODEL.DEVICE, "--device cpu (device='cpu' of Predictor)")
        _resolve_datasets(self.cfg)
        self.batch_size = batch_size
        self.memory_limit = memory_limit
        self.augmentations = build_augmentations(self.cfg, is_train=False)
        self.model = build_model(self.cfg).eval()
        answers = [task for task, branch in self.model.branches.items() if branch.output_key]
        self.tasks = self._check_tasks(answers if tasks is None else tasks)
        if tta and "keypoint" in self.tasks:
            raise ValueError(
                "tta: test-time augmentation does not do keypoints: leave it off, or 'keypoint' out of tasks."
            )
        path = os.fspath(self.cfg.MODEL.WEIGHTS if weights is None else weights)
        if not path:
            raise ValueError("there are no weights: give a checkpoint (weights=, --weights, or MODEL.WEIGHTS).")
        _check_heads(load_weights(self.model, path), self.model, self.tasks)
        self.tiling = (
            None if tile is None else self._fit_tiling(tile, tile // 4 if tile_overlap is None else tile_overlap)
        )
        scales = DEFAULT_SCALES if tta is True else tta
        self.tta = TestTimeAugmentation(self.cfg, self.model, scales) if scales else None

    def __call__(
        self, images: Image | Iterable[Image], tasks: Sequence[str] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Answers to ``tasks``, those of the constructor or fewer; for errors see :meth:`iterate`."""
        if isinstance(images, str | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim < 4):
            return next(self.iterate([images], tasks))
        return list(self.iterate(images, tasks))

    def iterate(self, images: Iterable[Image], tasks: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The answers one after the other: images are read as they are needed, ``batch_size`` at a time.

        Raises:
            BrokenSampleError: (a ValueError) a file cannot be read.
            MemoryError: the answers about a whole image exceed ``memory_limit``.
            ValueError: an array is no image, or a task is not one of the constructor's.
        """
        return self._iterate(iter(images), self.tasks if tasks is None else self._check_tasks(tasks, self.tasks))

    def read(self, image: Image) -> np.ndarray:
        """An image as the network reads it: (H, W, C) uint8 in the channel order of ``cfg.INPUT.FORMAT``."""
        if isinstance(image, str | os.PathLike):
            max_pixels = 0 if self.tiling is None else MAX_PIXELS
            return read_image(os.fspath(image), self.cfg.INPUT.FORMAT, max_pixels=max_pixels)
        return convert_array(image, self.cfg.INPUT.FORMAT)

    def _iterate(self, images: Iterator[Image], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
        while chunk := [self.read(image) for image in islice(images, self.batch_size)]:
            large = [self.tiling is not None and max(image.shape[:2]) > self.tiling.tile for image in chunk]
            whole = iter(
                self._predict_whole([x for x, is_large in zip(chunk, large, strict=True) if not is_large], tasks)
            )
            for image, is_large in zip(chunk, large, strict=True):
                yield self._predict_tiled(image, tasks) if is_large else next(whole)

    def _predict_whole(self, images: Sequence[np.ndarray], tasks: Sequence[str]) -> list[dict[str, Any]]:
        for image in images:
            check_whole(image.shape[:2], self._answer_bytes(image, tasks), self.memory_limit)
        return self._answer(images, [find_test_size(self.augmentations, image.shape[:2]) for image in images], tasks)

    def _predict_tiled(self, image: np.ndarray, tasks: Sequence[str]) -> dict[str, Any]:
        tiling = self.tiling
        assert tiling is not None
        answer = predict_tiled(
            image,
            lambda tiles: self._answer(tiles, [tiling.test_size(tile.shape[:2]) for tile in tiles], tasks),
            tiling,
            batch_size=self.batch_size,
            compact=self._answer_bytes(image, tasks) > self.memory_limit,
            max_mask_bytes=self.memory_limit,
            nms_threshold=self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
        )
        if self.model.panoptic is not None and {"instances", "sem_seg"} <= answer.keys():
            answer["panoptic_seg"] = self.model.panoptic(answer["instances"], answer["sem_seg"])
        return answer

    def _answer(
        self, images: Sequence[np.ndarray], sizes: Sequence[Size], tasks: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The network's answers about images that it sees in these sizes."""
        if self.tta is not None:
            return [_to_cpu(self.tta(image, size, tasks)) for image, size in zip(images, sizes, strict=True)]
        answers: dict[int, dict[str, Any]] = {}
        for size in dict.fromkeys(sizes):
            indices = [i for i, other in enumerate(sizes) if other == size]
            inputs = [make_input(images[i], size) for i in indices]
            answers.update(zip(indices, map(_to_cpu, self.model.inference(inputs, tasks=tasks)), strict=True))
        return [answers[i] for i in range(len(images))]

    def _fit_tiling(self, tile: int, overlap: int) -> Tiling:
        check_tile(tile, overlap)
        whole = [task for task in self.tasks if self.model.branches[task].output_key not in TILED_ANSWERS]
        if whole:
            raise ValueError(f"tile: the answers to {whole} are not put together from tiles: leave it, or them, out.")
        backbone = self.model.network_of(self.tasks[0]).backbone
        stride = max(backbone.size_divisibility, *(shape.stride for shape in backbone.output_shape().values()))
        side = find_test_size(self.augmentations, (tile, tile))[0]
        return Tiling.fit(tile, overlap, tile_test_size=side, stride=stride)

    def _answer_bytes(self, image: np.ndarray, tasks: Sequence[str]) -> int:
        masks = self.cfg.TEST.DETECTIONS_PER_IMAGE if self.cfg.MODEL.MASK_ON else 0
        classes = self.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        return answer_bytes(image.shape[:2], tasks, num_sem_classes=classes, num_instances=masks)

    def _check_tasks(self, tasks: Iterable[str], known: Sequence[str] | None = None) -> tuple[str, ...]:
        names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        self.model.with_dependencies(names)
        unloaded = [name for name in names if known is not None and name not in known]
        if unloaded or not names:
            raise ValueError(f"tasks {list(names)}: expected some of {list(known or self.model.branches)}.")
        return names


def _resolve_datasets(cfg: CfgNode) -> None:
    """Give DATASETS the names that training has: panoptic maps are merged by what the datasets say is stuff."""
    for key in ("TRAIN", "TEST"):
        cfg.DATASETS[key] = tuple(_resolve_where_there(name, f"DATASETS.{key}") for name in cfg.DATASETS[key])


def _resolve_where_there(name: str, key: str) -> str:
    try:
        name = resolve_dataset(name)
        lacking = "" if name in DatasetCatalog.list() else f"no dataset {name!r} is registered, name its description"
    except DatasetError as error:  # a network is used without its data, too
        lacking = str(error)
    if lacking:
        logger.warning("%s: class names and what is stuff may be unknown: %s", key, lacking)
    return name


def _check_heads(report: LoadReport, model: Any, tasks: Sequence[str]) -> None:
    """Raise ValueError where a task's layers kept their random values."""
    lacking = [*report.missing, *(key for key, _, _ in report.reinitialised)]
    for task in model.with_dependencies(tasks):
        network = model.network_of(task)
        branches = [model.branches[task]] if network is model else network.branches.values()
        below = f"networks.{task}."  # of SeparateTaskNetworks
        others = tuple(f"neck.by_task.{other}." for other in model.branches if other != task)
        heads = tuple(f"{name}." for name in ("neck", *(name for branch in branches for name in branch.owned_modules)))
        own = [(key, key.removeprefix(below)) for key in lacking if "num_batches" not in key]
        keys = [key for key, name in own if name.startswith(heads) and not name.startswith(others)]
        if keys:
            raise ValueError(
                f"{report.path} has no weights that fit the task {task!r} ({len(keys)} entries, such as {keys[0]!r}): "
                "give a checkpoint of a network with this task, or leave it out of tasks."
            )


def _to_cpu(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: _move(value) for key, value in answer.items()}


def _move(value: Any) -> Any:
    if isinstance(value, tuple):  # of a panoptic map and its segments
        return tuple(_move(part) for part in value)
    return value.to("cpu") if isinstance(value, Tensor) or hasattr(value, "to") else value
