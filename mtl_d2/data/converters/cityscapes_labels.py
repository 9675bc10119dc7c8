"""The labels of Cityscapes ("The Cityscapes Dataset for Semantic Urban Scene Understanding", Cordts et al. 2016)."""

from typing import NamedTuple


class Label(NamedTuple):
    """A label.

    Attributes:
        name: in the polygon files.
        id: in the labelIds and instanceIds PNGs; -1 is drawn in none of them.
        train_id: the semantic class, 255 (or -1) where pixels are ignored.
        has_instances: whether its objects are told apart.
        ignored: in evaluation.
    """

    name: str
    id: int
    train_id: int
    has_instances: bool
    ignored: bool


LABELS = (
    Label("unlabeled", 0, 255, False, True),
    Label("ego vehicle", 1, 255, False, True),
    Label("rectification border", 2, 255, False, True),
    Label("out of roi", 3, 255, False, True),
    Label("static", 4, 255, False, True),
    Label("dynamic", 5, 255, False, True),
    Label("ground", 6, 255, False, True),
    Label("road", 7, 0, False, False),
    Label("sidewalk", 8, 1, False, False),
    Label("parking", 9, 255, False, True),
    Label("rail track", 10, 255, False, True),
    Label("building", 11, 2, False, False),
    Label("wall", 12, 3, False, False),
    Label("fence", 13, 4, False, False),
    Label("guard rail", 14, 255, False, True),
    Label("bridge", 15, 255, False, True),
    Label("tunnel", 16, 255, False, True),
    Label("pole", 17, 5, False, False),
    Label("polegroup", 18, 255, False, True),
    Label("traffic light", 19, 6, False, False),
    Label("traffic sign", 20, 7, False, False),
    Label("vegetation", 21, 8, False, False),
    Label("terrain", 22, 9, False, False),
    Label("sky", 23, 10, False, False),
    Label("person", 24, 11, True, False),
    Label("rider", 25, 12, True, False),
    Label("car", 26, 13, True, False),
    Label("truck", 27, 14, True, False),
    Label("bus", 28, 15, True, False),
    Label("caravan", 29, 255, True, True),
    Label("trailer", 30, 255, True, True),
    Label("train", 31, 16, True, False),
    Label("motorcycle", 32, 17, True, False),
    Label("bicycle", 33, 18, True, False),
    Label("license plate", -1, -1, False, True),
)
BY_NAME = {label.name: label for label in LABELS}
CLASSES = tuple(label for label in LABELS if not label.ignored)  # in the order of their train ids
THINGS = tuple(label for label in CLASSES if label.has_instances)
STUFF = tuple(label for label in CLASSES if not label.has_instances)
