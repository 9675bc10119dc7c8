"""What the pictures call the classes."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.engine import setup_cfg
from mtl_d2.predictor.pictures import find_metadata
from tests.data.toy_coco import write_toy_coco


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
    assert (metadata.get("thing_dataset_id_to_contiguous_id") is not None) == (things == 80)


@pytest.fixture
def described(tmp_path: Path) -> Iterator[Path]:
    """A dataset of cats (category 3 of its json) and dogs (7), whose description does not name them."""
    write_toy_coco(tmp_path)
    path = tmp_path / "described_for_pictures.yaml"
    path.write_text(yaml.safe_dump({"images": "images", "instances": "instances.json"}))
    before = set(DatasetCatalog.list())
    yield path
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.mark.parametrize("ending", ["", ".fold0of2"])
def test_categories_of_a_described_dataset_are_those_of_its_json(described: Path, ending: str) -> None:
    cfg = setup_cfg("", ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "DATASETS.TEST", (f"{described}{ending}",)])
    metadata = find_metadata(cfg)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_without_its_files_a_described_dataset_has_numbers_and_a_warning(
    described: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mtl_d2"), "propagate", True)
    (described.parent / "instances.json").unlink()
    cfg = setup_cfg("", ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "DATASETS.TEST", (str(described),)])
    metadata = find_metadata(cfg)
    assert metadata.thing_classes == ["class 0", "class 1"]
    assert metadata.get("thing_dataset_id_to_contiguous_id") is None
    assert "instances.json does not exist" in caplog.text
