"""The answers about an image drawn on the image itself, as for the frames of a video."""

from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata

from mtl_d2.visualization.canvas import WHITE
from mtl_d2.visualization.cells import class_color, class_map, draw_instances, mask_frames
from mtl_d2.visualization.image_labels import draw_caption
from mtl_d2.visualization.keypoints import draw_keypoints


def draw_overlay(
    image: np.ndarray, prediction: dict[str, Any], metadata: Metadata, *, score_threshold: float = 0.5
) -> np.ndarray:
    """Semantic classes as a tint, instances with outlines and keypoints, edges of a probability above 1/2 in white.

    The image labels of a probability of 1/2 and more stand in the upper left corner.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: the model's output for this image, in its size.
        metadata: the dataset's: class names, and colours where it has them.
        score_threshold: instances below it are not drawn.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    canvas = image.copy()
    if "sem_seg" in prediction:
        labels = class_map(prediction["sem_seg"]).cpu().numpy()
        colors = [class_color(i, metadata.get("stuff_colors", None)) for i in range(int(labels.max()) + 1)]
        canvas = cv2.addWeighted(np.array(colors, dtype=np.uint8)[labels], 0.3, canvas, 0.7, 0)
    if "instances" in prediction:
        instances = prediction["instances"].to("cpu")
        instances = instances[instances.scores >= score_threshold]
        canvas = draw_instances(
            canvas,
            1.0,
            boxes=instances.pred_boxes.tensor.numpy(),
            classes=instances.pred_classes.tolist(),
            class_names=metadata.thing_classes,
            masks=mask_frames(instances),
            scores=instances.scores.tolist(),
        )
        if instances.has("pred_keypoints"):
            canvas = draw_keypoints(canvas, 1.0, instances.pred_keypoints, metadata)
    if "edge" in prediction:
        canvas[prediction["edge"].cpu().numpy() > 0.5] = WHITE
    if "image_labels" in prediction:
        draw_caption(canvas, prediction["image_labels"].cpu(), metadata)
    return canvas
