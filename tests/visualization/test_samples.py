import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from mtl_d2.data import MultiTaskDatasetMapper
from mtl_d2.structures import edges_from_ids, id_map
from mtl_d2.testing import tiny_cfg, toy_dataset
from mtl_d2.visualization.canvas import drawing_scale
from mtl_d2.visualization.cells import VOID_STRIPES, draw_edge, draw_instances, draw_note, draw_sem_seg
from mtl_d2.visualization.panel import GAP, TITLE_HEIGHT
from mtl_d2.visualization.samples import NO_LABEL, draw_samples

KEYS = ("instances", "sem_seg", "edge")
SIZE, SCALE = 64, 8
SWATCHES = slice(8, 22)  # columns of the legend, beside the names


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(4) as name:
        yield name


@pytest.fixture
def record(dataset):
    """64 x 64 pixels with three objects, and void in the lower right corner."""
    return DatasetCatalog.get(dataset)[3]


def _map(record, *augmentations):
    options = MultiTaskDatasetMapper.from_config(tiny_cfg(), is_train=True)
    return MultiTaskDatasetMapper(**{**options, "augmentations": list(augmentations)})(record)


def _draw(dataset, *samples):
    return draw_samples([("title", sample) for sample in samples], MetadataCatalog.get(dataset), label_keys=KEYS)


def _cell(picture, row, column, size=SIZE * SCALE, space=SIZE * SCALE):
    top, left = row * (space + TITLE_HEIGHT + GAP) + TITLE_HEIGHT, GAP + column * (space + GAP)
    return picture[top : top + size, left : left + size]


def test_cells_show_the_labels_of_the_flipped_image(dataset, record):
    """Against labels that are flipped here: what is drawn is what the augmentation made, in every cell."""
    picture = _draw(dataset, _map(record, T.RandomFlip(prob=1.0)))
    image = np.fliplr(np.asarray(Image.open(record["file_name"])))
    sem_seg = np.fliplr(np.asarray(Image.open(record["sem_seg_file_name"])))
    boxes = np.array([a["bbox"] for a in record["annotations"]])  # x, y, width, height
    x1 = SIZE - boxes[:, 0]
    boxes = np.stack([x1 - boxes[:, 2], boxes[:, 1], x1, boxes[:, 1] + boxes[:, 3]], axis=1)
    masks = np.zeros((3, SIZE, SIZE), dtype=bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    edge = edges_from_ids(id_map(masks, sem_seg), sem_seg == 255)
    classes = [a["category_id"] for a in record["annotations"]]
    expected = (
        draw_instances(image, SCALE, boxes=boxes, classes=classes, class_names=["box", "bar"], masks=masks),
        draw_sem_seg(image, SCALE, labels=sem_seg, num_classes=4),
        draw_edge(edge == 1, SCALE, ignored=edge == 255),
    )
    stored = _draw(dataset, _map(record))
    for column, cell in enumerate(expected, start=1):
        assert (_cell(picture, 0, column) == cell).all(), column
        assert (_cell(stored, 0, column) != cell).any(), column


def test_each_row_has_its_own_size_in_columns_of_the_largest(dataset, record):
    small = _map(record, T.Resize((40, 50)))
    assert drawing_scale(40, 50) == 10
    picture = _draw(dataset, _map(record), small)
    row_height, column_width = SIZE * SCALE + TITLE_HEIGHT + GAP, SIZE * SCALE + GAP
    assert picture.shape == (2 * row_height, 5 * column_width + GAP, 3)
    edge = draw_edge(small["edge"].numpy() == 1, 10, ignored=small["edge"].numpy() == 255)
    top, left = row_height + TITLE_HEIGHT, GAP + 3 * column_width
    assert (picture[top : top + 400, left : left + 500] == edge).all()


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        (("annotations",), ("instances", "edge")),
        (("sem_seg_file_name",), ("sem_seg", "edge")),
        (("edge_source",), ("edge",)),
    ],
)
def test_absent_label_is_said_to_be_absent(dataset, record, keys, missing):
    for key in (*keys, "edge_source"):
        record.pop(key, None)
    picture = _draw(dataset, _map(record))
    note = draw_note((SIZE * SCALE, SIZE * SCALE), NO_LABEL)
    for column, key in enumerate(KEYS, start=1):
        assert (_cell(picture, 0, column) == note).all() == (key in missing), key


def test_image_without_objects_is_labelled(dataset, record):
    record["annotations"] = []
    picture = _draw(dataset, _map(record))
    assert (_cell(picture, 0, 1) == _cell(picture, 0, 0)).all()  # the image, with nothing on it
    assert (_cell(picture, 0, 3) == 0).any()  # the semantic map has edges yet


def test_void_is_striped_in_the_map_and_in_the_legend(dataset, record):
    def striped(cell):
        return (cell == VOID_STRIPES).all(axis=2)

    picture = _draw(dataset, _map(record))
    stripes = striped(_cell(picture, 0, 2))
    corner = (SIZE - 4) * SCALE
    assert 0.2 < stripes[corner:, corner:].mean() < 0.3
    assert not stripes[:corner].any() and not stripes[:, :corner].any()
    assert striped(_cell(picture, 0, 4))[:, SWATCHES].any()
    without = _map(record)
    without["sem_seg"][without["sem_seg"] == 255] = 0
    assert not striped(_cell(_draw(dataset, without), 0, 4))[:, SWATCHES].any()


def test_legend_names_the_classes_of_all_rows_once(dataset, record):
    first, second = _map(record), _map(record)
    first["sem_seg"], second["sem_seg"] = torch.zeros(SIZE, SIZE).long(), torch.full((SIZE, SIZE), 3)
    both, alone = _draw(dataset, first, second), _draw(dataset, first)
    assert (_cell(both, 0, 4) != _cell(alone, 0, 4)).any() and (_cell(both, 1, 4) == 255).all()


def test_colours_of_the_image_are_right_in_either_format(dataset, record):
    sample = _map(record)
    red_first = {**sample, "image": sample["image"].flip(0)}
    metadata = MetadataCatalog.get(dataset)
    pictures = [
        draw_samples([("", s)], metadata, label_keys=KEYS, image_format=f)
        for s, f in ((sample, "BGR"), (red_first, "RGB"))
    ]
    assert (pictures[0] == pictures[1]).all()
    annotation = record["annotations"][0]
    x, y = (int(v) + 3 for v in annotation["bbox"][:2])
    color = (200, 60, 60) if annotation["category_id"] == 0 else (60, 60, 200)
    assert tuple(_cell(pictures[0], 0, 0)[y * SCALE, x * SCALE]) == color


def test_of_many_labelled_objects_the_largest_are_named():
    boxes = np.array([[2 * i, 20, 2 * i + 1, 20 + 1 + i] for i in range(20)])
    options = {"boxes": boxes, "classes": [0] * 20}
    image = np.zeros((64, 64, 3), np.uint8)
    named = draw_instances(image, SCALE, class_names=["box", "bar"], **options)
    scored = draw_instances(image, SCALE, class_names=["box", "bar"], scores=[0.5] * 20, **options)
    changed = (named != scored).any(axis=(0, 2))
    assert changed[10 * SCALE : 39 * SCALE].any() and not changed[: 10 * SCALE - 1].any()
