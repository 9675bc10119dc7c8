"""What the pictures call the classes."""

import pytest

from mtl_d2.engine import setup_cfg
from mtl_d2.predictor.pictures import find_metadata


@pytest.mark.parametrize(
    ("things", "stuff"),
    [(80, 133), (3, 133), (80, 2)],
)
def test_names_and_colours_are_the_datasets_only_where_they_fit_the_network(things: int, stuff: int) -> None:
    counts = ["MODEL.ROI_HEADS.NUM_CLASSES", things, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", stuff]
    metadata = find_metadata(setup_cfg("configs/quick/coco_mini.yaml", counts))
    expected_things = "person" if things == 80 else "class 0"
    expected_stuff = "person" if stuff == 133 else "class 0"
    assert (metadata.thing_classes[0], len(metadata.thing_classes)) == (expected_things, things)
    assert (metadata.stuff_classes[0], len(metadata.stuff_classes)) == (expected_stuff, stuff)
    assert (metadata.get("thing_colors") is not None) == (things == 80)
    assert (metadata.get("stuff_colors") is not None) == (stuff == 133)
