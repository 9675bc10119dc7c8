"""One synthetic scene: overlapping textured shapes on a textured background, with exact labels.

Objects draw their colours from the whole range in which those of the background lie, so that colour tells no object
from another nor from the ground: things are told by their outline. Stuff has a texture of its own, and colours that
scatter around the class's. What is labelled is what is visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .shapes_textures import STUFF_TEXTURES, THING_TEXTURES, smooth_field

RECIPE_VERSION = 5  # raise it with every change that alters a pixel or a label
THING_CLASSES = ("ellipse", "bar", "ring", "cross")
RARE_CLASS = "cross"  # the one of a set with a rare class
STUFF_CLASSES = ("water", "sand", "gravel")
THING = 0  # the semantic id of all things, as in Detectron2's Panoptic FPN; stuff class i is 1 + i
VOID = 255
CORNERS = ("top_left", "top_right", "bottom_right", "bottom_left")
CORNER_PAIRS = (("top_left", "top_right"), ("bottom_left", "bottom_right"))  # that swap in a mirror image

MIN_EXTENT = 8.0  # pixels, whatever the scene's size
EXTENT_POWER = 0.6  # below 1 large ones are more frequent
MIN_VISIBLE_PIXELS = 20
VOID_PROB = 0.7
COLOR_RANGE = (45.0, 210.0)
STUFF_COLORS = ((75.0, 120.0, 175.0), (180.0, 155.0, 95.0), (110.0, 115.0, 105.0))  # RGB of water, sand, gravel
STUFF_COLOR_SIGMA = 25.0
MIN_CONTRAST = 45.0  # RGB distance between the mean colours of a region and of those beside it
TEXTURE_CONTRAST = (35.0, 80.0)  # RGB distance between the two colours of a texture
THING_COLORS = ((200.0, 60.0, 60.0), (60.0, 60.0, 205.0), (205.0, 60.0, 205.0), (60.0, 205.0, 205.0))
THING_COLOR_SIGMA = 15.0


@dataclass(frozen=True)
class Style:
    """How hard the scenes are.

    Attributes:
        instances: least and largest number of things.
        extents: least and largest longest side before rotation, in pixels of a 192-pixel scene.
        min_visible_fraction: of what a shape shows when it is painted: less is not a fair question.
        cluster_prob: chance that a shape is placed at an earlier one, to overlap or touch it.
        noise_sigma: grey levels.
        things_inside: no shape is cut by the border by much.
        color_by_class: a thing's colours scatter around its class's in THING_COLORS.
    """

    instances: tuple[int, int] = (3, 8)
    extents: tuple[float, float] = (0.0, 70.0)
    min_visible_fraction: float = 0.3
    cluster_prob: float = 0.4
    noise_sigma: float = 12.0
    things_inside: bool = False
    color_by_class: bool = False


STYLES = {
    "standard": Style(),
    # What a small network learns in minutes on a CPU: few large things of a colour of their class, hardly hidden.
    "easy": Style(
        (1, 3), (72.0, 90.0), 0.85, cluster_prob=0.0, noise_sigma=6.0, things_inside=True, color_by_class=True
    ),
}


@dataclass(frozen=True)
class Scene:
    """image: uint8 (H, W, 3) RGB; instance_ids: int32 (H, W), 0 where no instance, else 1 + index in classes;
    semantic: uint8 (H, W), THING, 1 + stuff class, or VOID; classes: thing class of each instance; corners: of each
    instance, (4, 2) x, y in pixels in the order of CORNERS, NaN where there is none to be seen."""

    image: np.ndarray
    instance_ids: np.ndarray
    semantic: np.ndarray
    classes: list[int]
    corners: list[np.ndarray]


def make_scene(
    rng: np.random.Generator, size: int, *, style: Style = STYLES["standard"], rare_share: float | None = None
) -> Scene:
    """Draw a scene of ``size`` x ``size`` pixels; every random number comes from ``rng``.

    Args:
        rare_share: chance that a thing is of RARE_CLASS, the other classes being alike; None for all classes alike.
    """
    semantic = _draw_layout(rng, size)
    instance_ids, classes, corners = _place_instances(rng, size, style, rare_share)
    image = np.empty((size, size, 3), np.float32)
    means: list[np.ndarray] = []
    for i in np.unique(semantic):  # the void looks like anything
        stuff = i - 1 if i <= len(STUFF_CLASSES) else rng.integers(len(STUFF_CLASSES))
        texture = STUFF_TEXTURES[stuff]
        colors = _draw_colors(rng, beside=means, center=STUFF_COLORS[stuff])
        means.append(colors.mean(0))
        _paint(image, semantic == i, texture(rng, size), colors)
    for i in range(1, len(classes) + 1):
        mask = instance_ids == i
        around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
        texture = THING_TEXTURES[rng.integers(len(THING_TEXTURES))](rng, size)
        if style.color_by_class:
            colors = _draw_class_colors(rng, classes[i - 1])
        else:
            colors = _draw_colors(rng, beside=[image[around].mean(0)])
        _paint(image, mask, texture, colors)
    semantic[instance_ids > 0] = THING
    visible = [_visible_corners(points, instance_ids == i) for i, points in enumerate(corners, start=1)]
    return Scene(_photograph(rng, image, style.noise_sigma), instance_ids, semantic, classes, visible)


def _draw_layout(rng: np.random.Generator, size: int) -> np.ndarray:
    """1 + stuff class with curved borders, uint8 (size, size), and in most scenes one void region."""
    present = rng.permutation(len(STUFF_CLASSES))[: rng.integers(2, len(STUFF_CLASSES) + 1)]
    fields = np.stack([smooth_field(rng, size, cells=3) for _ in present])
    layout = (1 + present[fields.argmax(0)]).astype(np.uint8)
    if rng.random() < VOID_PROB:
        height = np.abs(smooth_field(rng, size, cells=2))  # a bent ribbon: a hilltop would pass for an ellipse
        layout[height < np.quantile(height, rng.uniform(0.06, 0.12))] = VOID
    return layout


def semantic_by_class(scene: Scene) -> np.ndarray:
    """The semantic map with an id for each thing class, uint8 (H, W): thing classes, then stuff classes, or VOID."""
    things = np.array([0, *scene.classes], np.uint8)[scene.instance_ids]
    stuff = np.where(scene.semantic == VOID, VOID, scene.semantic + np.uint8(len(THING_CLASSES) - 1))
    return np.where(scene.instance_ids > 0, things, stuff).astype(np.uint8)


def _draw_class(rng: np.random.Generator, rare_share: float | None) -> int:
    if rare_share is None:
        return int(rng.integers(len(THING_CLASSES)))
    rare = THING_CLASSES.index(RARE_CLASS)
    shares = np.full(len(THING_CLASSES), (1 - rare_share) / (len(THING_CLASSES) - 1))
    shares[rare] = rare_share
    return int(rng.choice(len(THING_CLASSES), p=shares))


def _place_instances(
    rng: np.random.Generator, size: int, style: Style, rare_share: float | None
) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """Paint shapes one over the other; one that shows or leaves too little of another is not painted.

    Returns:
        ids (size, size), 1 + index in the classes; the classes; the corners (4, 2) of each, hidden ones too.
    """
    ids = np.zeros((size, size), np.int32)
    classes: list[int] = []
    centers: list[np.ndarray] = []
    corners: list[np.ndarray] = []
    full_areas: list[int] = []
    wanted = int(rng.integers(style.instances[0], style.instances[1] + 1))
    smallest, largest = (extent * size / 192 for extent in style.extents)
    smallest = max(smallest, MIN_EXTENT)
    largest = max(largest, smallest + 1)
    for _ in range(50 * wanted):
        if len(classes) == wanted:
            break
        thing = _draw_class(rng, rare_share)
        extent = smallest + (largest - smallest) * rng.random() ** EXTENT_POWER
        center = rng.uniform(-0.02, 1.02, 2) * size  # some are cut by the border
        if centers and rng.random() < style.cluster_prob:
            center = centers[rng.integers(len(centers))] + rng.normal(0, 0.14 * size, 2)
        if style.things_inside:
            center = np.clip(center, 0.45 * extent, size - 0.45 * extent)
        mask, points = _draw_shape(rng, thing, center, extent, size)
        left = np.bincount(ids[~mask], minlength=len(classes) + 1)[1:]
        enough = np.maximum(MIN_VISIBLE_PIXELS, style.min_visible_fraction * np.array(full_areas))
        if mask.sum() < MIN_VISIBLE_PIXELS or (left < enough).any():
            continue
        classes.append(thing)
        centers.append(center)
        corners.append(points)
        full_areas.append(int(mask.sum()))
        ids[mask] = len(classes)
    return ids, classes, corners


def _draw_shape(
    rng: np.random.Generator, thing: int, center: np.ndarray, extent: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """bool (size, size), pixels whose centre lies in the rotated shape, and its corners: see :func:`_corners`."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[:size, :size]
    x, y = x + 0.5 - center[0], y + 0.5 - center[1]
    u = (np.cos(angle) * x + np.sin(angle) * y) / (extent / 2)  # in [-1, 1] along the longest side
    v = (np.cos(angle) * y - np.sin(angle) * x) / (extent / 2)
    radius = np.hypot(u, v / rng.uniform(0.7, 1.0))
    if THING_CLASSES[thing] == "ellipse":
        return radius <= 1, np.full((len(CORNERS), 2), np.nan)
    if THING_CLASSES[thing] == "ring":
        return (radius <= 1) & (radius >= rng.uniform(0.4, 0.55)), np.full((len(CORNERS), 2), np.nan)
    width = rng.uniform(0.28, 0.42)
    bar = (np.abs(u) <= 1) & (np.abs(v) <= width)
    if THING_CLASSES[thing] == "bar":
        return bar, _corners((extent / 2, width * extent / 2), angle, center)
    cross = bar | (np.abs(v) <= 1) & (np.abs(u) <= width)
    return cross, _corners((width * extent / 2, width * extent / 2), angle, center)


def _corners(half_sides: tuple[float, float], angle: float, center: np.ndarray) -> np.ndarray:
    """Corners of a rotated rectangle, (4, 2) x, y in pixels in the order of CORNERS: a bar's own, a cross's inner ones.

    The top left one has the least x + y, the top right one the largest x - y, and so on: in the mirror image of a scene
    they are those of CORNER_PAIRS. Where the rectangle stands on a corner exactly, two are equally far to a side.
    """
    along = np.array([np.cos(angle), np.sin(angle)]) * half_sides[0]
    across = np.array([-np.sin(angle), np.cos(angle)]) * half_sides[1]
    points = center + np.stack([along + across, along - across, -along - across, -along + across])
    down, right = points.sum(1), points[:, 0] - points[:, 1]
    return points[[down.argmin(), right.argmax(), down.argmax(), right.argmin()]]


def _visible_corners(corners: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The corners (4, 2), NaN where none of the pixels at one is the shape's: covered, or outside of the image."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    inside = (corners >= 0) & (corners < np.array(mask.shape[::-1]))  # False for NaN
    x, y = np.where(inside, corners, 0).astype(int).T
    return np.where((inside.all(1) & (near[y, x] > 0))[:, None], corners, np.nan)


def _draw_colors(
    rng: np.random.Generator, beside: Sequence[np.ndarray], center: Sequence[float] | None = None
) -> np.ndarray:
    """Two RGB colours, float (2, 3); their mean keeps MIN_CONTRAST to each of ``beside`` where possible.

    The mean is uniform in COLOR_RANGE, or scatters around ``center``.
    """
    for _ in range(20):
        mean = rng.uniform(*COLOR_RANGE, 3) if center is None else rng.normal(center, STUFF_COLOR_SIGMA)
        direction = rng.normal(size=3)
        step = direction / np.linalg.norm(direction) * rng.uniform(*TEXTURE_CONTRAST)
        colors = np.clip(mean + np.stack([-step / 2, step / 2]), *COLOR_RANGE)
        if all(np.linalg.norm(colors.mean(0) - mean) >= MIN_CONTRAST for mean in beside):
            break
    return colors


def _draw_class_colors(rng: np.random.Generator, thing: int) -> np.ndarray:
    """Two RGB colours, float (2, 3), around those of the class."""
    mean = THING_COLORS[thing] + rng.normal(0, THING_COLOR_SIGMA, 3)
    step = rng.normal(0, THING_COLOR_SIGMA, 3)
    return np.clip(mean + np.stack([-step, step]), 20, 240)


def _paint(image: np.ndarray, mask: np.ndarray, texture: np.ndarray, colors: np.ndarray) -> None:
    share = texture[mask][:, None]
    image[mask] = (1 - share) * colors[0] + share * colors[1]


def _photograph(rng: np.random.Generator, image: np.ndarray, noise_sigma: float) -> np.ndarray:
    """Light from one side, a slight blur, sensor noise, 8 bits."""
    size = image.shape[0]
    direction = rng.uniform(0, 2 * np.pi)
    y, x = (line / size - 0.5 for line in np.ogrid[:size, :size])
    light = 1 + rng.uniform(0.1, 0.5) * (np.cos(direction) * x + np.sin(direction) * y)
    lit = image * light[..., None].astype(np.float32)
    blurred = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.5, 1.1))
    return np.clip(np.rint(blurred + noise_sigma * rng.standard_normal(image.shape, np.float32)), 0, 255).astype(
        np.uint8
    )
