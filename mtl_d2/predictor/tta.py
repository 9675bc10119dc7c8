"""Test-time augmentation: several sizes, each also mirrored."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.structures import ImageList
from fvcore.transforms.transform import HFlipTransform
from torch import Tensor, nn

from ..meta_arch import MultiTaskFPN
from ..separate_networks import SeparateTaskNetworks
from .network_input import Size, make_input

DEFAULT_SCALES = (0.75, 1.0, 1.25)


class TestTimeAugmentation:
    """Answers from several views of an image.

    Probabilities of semantics, edges and image labels are averaged. Derived edge labels are the left pixel of a border,
    in a mirrored view too: averages of vertical edges are a pixel of the network's input wider than the answers.
    Instances are Detectron2's ``GeneralizedRCNNWithTTA``: NMS over the boxes of all views, then the average of the
    masks that all views give in those boxes.

    Args:
        cfg: reads MODEL.MASK_ON, MODEL.ROI_HEADS.NMS_THRESH_TEST and TEST.DETECTIONS_PER_IMAGE.
        model: in evaluation mode.
        scales: sizes of the views, relative to the config's test size.
    """

    __test__ = False  # no class of tests, whatever its name

    def __init__(
        self, cfg: CfgNode, model: MultiTaskFPN | SeparateTaskNetworks, scales: Sequence[float] = DEFAULT_SCALES
    ) -> None:
        self.model: Any = model
        self.scales = tuple(scales)
        if "instance" in model.branches:
            network: Any = model.network_of("instance")
            detector = _Detector(  # Detectron2's class around the modules of ours
                backbone=_InstanceFeatures(network),
                proposal_generator=network.proposal_generator,
                roi_heads=network.roi_heads,
                pixel_mean=network.pixel_mean.flatten().tolist(),
                pixel_std=network.pixel_std.flatten().tolist(),
            )
            detector.to(self.model.device).eval()
            self.detector = GeneralizedRCNNWithTTA(cfg, detector, tta_mapper=lambda x: x["views"], batch_size=1)

    def __call__(self, image: np.ndarray, size: Size, tasks: Collection[str]) -> dict[str, Any]:
        """As ``MultiTaskFPN.inference``; "sem_seg" holds logarithms of probabilities, which are logits too.

        Args:
            image: (H, W, C) uint8, in the channel order of ``cfg.INPUT.FORMAT``.
            size: height and width of the view at scale 1.
            tasks: any of "instance", "sem_seg", "edge", "classification".
        """
        views = self._views(image, size)
        answer: dict[str, Any] = {}
        if "instance" in tasks:
            height, width = image.shape[:2]
            whole = {"image": views[0]["image"], "height": height, "width": width, "views": views}
            answer.update(self._detect(whole))
        dense = [task for task in tasks if task != "instance"]
        if dense:
            answer.update(self._average(views, dense))
        if self.model.panoptic is not None and {"instances", "sem_seg"} <= answer.keys():
            answer["panoptic_seg"] = self.model.panoptic(answer["instances"], answer["sem_seg"])
        return answer

    def _detect(self, whole: dict[str, Any]) -> dict[str, Any]:
        """Detectron2 turns the masks off while it finds boxes, and leaves them off where that fails."""
        heads = self.detector.model.roi_heads
        switches = {name: getattr(heads, name) for name in ("mask_on", "keypoint_on") if hasattr(heads, name)}
        try:
            with torch.no_grad():
                return self.detector([whole])[0]
        finally:
            for name, is_on in switches.items():
                setattr(heads, name, is_on)

    def _views(self, image: np.ndarray, size: Size) -> list[dict[str, Any]]:
        views = []
        for scale in self.scales:
            height, width = (max(1, round(side * scale)) for side in size)
            view = make_input(image, (height, width))
            resize = T.ResizeTransform(*image.shape[:2], height, width)
            mirrored = {**view, "image": view["image"].flip(-1)}
            views.append({**view, "transforms": T.TransformList([resize])})
            views.append({**mirrored, "transforms": T.TransformList([resize, HFlipTransform(width)])})
        return views

    def _average(self, views: Sequence[dict[str, Any]], tasks: Sequence[str]) -> dict[str, Any]:
        total: dict[str, Any] = {}
        for index, view in enumerate(views):
            for key, values in self.model.inference([view], tasks=tasks)[0].items():
                probabilities = values.softmax(dim=0) if key == "sem_seg" else values
                upright = probabilities.flip(-1) if index % 2 and key != "image_labels" else probabilities
                total[key] = upright if key not in total else total[key].add_(upright)
        mean = {key: values / len(views) for key, values in total.items()}
        if "sem_seg" in mean:
            mean["sem_seg"] = mean["sem_seg"].clamp_(min=1e-12).log_()
        return mean


class _InstanceFeatures(nn.Module):
    """A backbone for Detectron2's detectors: ours, and what the neck makes of its features for instances.

    Attributes:
        image_sizes: of the images to come, without padding.
    """

    def __init__(self, network: MultiTaskFPN) -> None:
        super().__init__()
        self.network = network
        self.size_divisibility = network.backbone.size_divisibility
        self.padding_constraints = getattr(network.backbone, "padding_constraints", {})
        self.image_sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.network.neck.aggregate(self.network.backbone(images))
        return dict(self.network.task_features("instance", features, self.image_sizes))


class _Detector(GeneralizedRCNN):
    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        images = super().preprocess_image(batched_inputs)
        self.backbone.image_sizes = images.image_sizes
        return images
