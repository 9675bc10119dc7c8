"""Which edges the mapper makes of a record's labels, by INPUT.MTL.EDGE."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_d2.data.edge_label import EdgeLabel
from mtl_d2.data.targets import derive_edges
from mtl_d2.engine import setup_cfg
from mtl_d2.structures.box_masks import BoxMask, crop_mask, draw_masks
from mtl_d2.structures.edge_kinds import EDGE_KINDS, edges_of_kind
from mtl_d2.structures.edges import edges_from_ids, id_map
from tests.data.test_mapper import annotation, ellipse, mapper

CONFIG = Path(__file__).parents[2] / "configs/quick/edge_labels.yaml"
SIZE = (70, 54)
AS_STORED = {"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (54,)}


@pytest.fixture
def record(tmp_path):
    """An image of two classes and void, with two objects that overlap, and a crowd that one of them covers in part."""
    sem_seg = np.zeros(SIZE, np.uint8)
    sem_seg[40:], sem_seg[:9, 20:] = 1, 255
    Image.fromarray(sem_seg).save(tmp_path / "sem_seg.png")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "image.png")
    return {
        "file_name": str(tmp_path / "image.png"),
        "height": SIZE[0],
        "width": SIZE[1],
        "image_id": 1,
        "sem_seg_file_name": str(tmp_path / "sem_seg.png"),
        "edge_source": "union",
        "annotations": [
            annotation(ellipse(*SIZE, 30, 20, 17.3, 11.1)),
            annotation(ellipse(*SIZE, 44, 30, 8.7, 19.2)),
            annotation(ellipse(*SIZE, 56, 40, 12, 10), iscrowd=1),
        ],
    }


def _options(**options):
    return {**AS_STORED, **{f"INPUT.MTL.EDGE.{key}": value for key, value in options.items()}}


def _expected(record, source, kind, radius):
    masks = [ellipse(*SIZE, 30, 20, 17.3, 11.1), ellipse(*SIZE, 44, 30, 8.7, 19.2)]
    crowd = ellipse(*SIZE, 56, 40, 12, 10)
    if source == "semantic":
        masks, crowd = [], np.zeros(SIZE, bool)
    sem_seg = None if source == "instance" else np.asarray(Image.open(record["sem_seg_file_name"]))
    ignore = crowd if sem_seg is None else crowd | (sem_seg == 255)
    for mask in masks:
        ignore = ignore & ~mask
    return edges_of_kind(id_map(masks, sem_seg, size=SIZE), ignore, kind, radius), ignore


@pytest.mark.parametrize("source", ["instance", "semantic", "union"])
@pytest.mark.parametrize("kind", EDGE_KINDS)
def test_kind_radius_and_source_are_those_of_the_config(record, source, kind):
    for radius in (1, 3):
        edge = mapper(**_options(KIND=kind, RADIUS=radius, SOURCE=source))(record)["edge"]
        expected, ignore = _expected(record, source, kind, radius)
        assert edge.dtype == torch.int64 and np.array_equal(edge.numpy(), expected)
        assert ignore.any() and (edge.numpy()[ignore] == 255).all()  # neither void nor crowd ever is an edge
        assert (edge == 1).any()


def test_without_a_source_it_is_the_datasets(record):
    for source in ("instance", "semantic", "union"):
        given = mapper(**AS_STORED)({**record, "edge_source": source})["edge"]
        assert torch.equal(given, mapper(**_options(SOURCE=source))(record)["edge"])


def test_a_source_gives_no_label_to_an_image_that_has_none(record):
    del record["edge_source"]
    assert "edge" not in mapper(**_options(SOURCE="instance"))(record)


def test_classes_are_not_counted_where_semantics_only_make_edges(record):
    """Ids 0 and 1, without the task that MODEL.SEM_SEG_HEAD.NUM_CLASSES is of."""
    alone = {**AS_STORED, "MODEL.MTL.TASKS": ["edge"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1}
    assert torch.equal(mapper(**alone)(record)["edge"], mapper(**AS_STORED)(record)["edge"])


def test_a_source_that_the_record_lacks_is_named(record):
    record["edge_source"] = "instance"
    del record["sem_seg_file_name"]
    with pytest.raises(ValueError, match="INPUT.MTL.EDGE.SOURCE 'union' needs 'sem_seg_file_name'"):
        mapper(**_options(SOURCE="union"))(record)


def test_two_sided_edges_flip_with_the_image(record):
    plain = mapper(**_options(KIND="radius"))(record)["edge"]
    flipped = mapper(**_options(KIND="radius"), **{"INPUT.MTL.VERTICAL_FLIP_PROB": 1.0})(record)["edge"]
    assert torch.equal(flipped, plain.flip(0)) and not torch.equal(flipped, plain)


def test_wide_edges_keep_their_width_when_the_image_grows(record):
    """The radius counts pixels of the augmented image: labels are made last."""
    for size in (54, 108):
        options = _options(KIND="radius", RADIUS=1, SOURCE="semantic") | {"INPUT.MIN_SIZE_TRAIN": (size,)}
        edge = mapper(**options)(record)["edge"]
        assert (edge[:, 2] == 1).sum() == 2


@pytest.mark.parametrize("kind", EDGE_KINDS)
def test_no_object_and_one_class_make_no_edge(record, kind, tmp_path):
    record["annotations"] = []
    assert not mapper(**_options(KIND=kind, SOURCE="instance"))(record)["edge"].any()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "sem_seg.png")
    for source in ("semantic", "union"):
        assert not mapper(**_options(KIND=kind, SOURCE=source))(record)["edge"].any()


def test_annotators_agree_by_eta_before_edges_are_widened(record, tmp_path):
    """Row 10 is drawn by all three, row 30 by two, row 50 by one."""
    names = []
    for k, rows in enumerate(([10, 30, 50], [10, 30], [10])):
        edge = np.zeros(SIZE, np.uint8)
        edge[rows] = 255
        names.append(str(tmp_path / f"{k}.png"))
        Image.fromarray(edge).save(names[-1])
    record["edge_file_name"] = names
    for eta, expected in ((0.3, (1, 1, 1)), (0.5, (1, 1, 255)), (0.9, (1, 255, 255))):
        edge = mapper(**_options(ETA=eta, SOURCE="instance"))(record)["edge"].numpy()
        assert tuple(edge[[10, 30, 50], 0]) == expected
        assert np.count_nonzero(edge.any(axis=1)) == 3
        wide = mapper(**_options(ETA=eta, KIND="dilated", RADIUS=2))(record)["edge"].numpy()
        assert all((wide[row - 2 : row + 3] == edge[row]).all() for row in (10, 30, 50))
        assert np.count_nonzero(wide.any(axis=1)) == 15


@pytest.mark.parametrize("with_sem_seg", [False, True])
@pytest.mark.parametrize("count", [253, 254, 255, 300, 66_000])
def test_many_objects_stay_apart(count, with_sem_seg):
    """Beyond 8 and 16 bits of ids: columns of one pixel, each another object, so that every pixel is an edge."""
    width = min(count, 1000)
    height = -(-count // width)
    masks = [BoxMask(*divmod(i, width), np.ones((1, 1), bool)) for i in range(count)]
    sem_seg = np.zeros((height, width), np.uint8) if with_sem_seg else None
    if sem_seg is not None:
        sem_seg[-1, -1] = 254 if count < 300 else 7
    edge = derive_edges(masks, [], sem_seg, (height, width))
    painted = np.arange(height * width).reshape(height, width)
    if count < height * width:
        painted[painted >= count] = -1
    assert np.array_equal(edge, edges_from_ids(painted))


@pytest.mark.parametrize("ignore_value", [0, 19, 255])
def test_painting_in_place_equals_the_id_map(ignore_value):
    rng = np.random.default_rng(ignore_value)
    for _ in range(5):
        frames = np.stack([ellipse(41, 37, *rng.integers(0, 40, 2), *rng.integers(2, 20, 2)) for _ in range(6)])
        frames[2] = False  # a crop has emptied it
        sem_seg = np.kron(rng.choice([0, 1, 18, 19, 255], (6, 5)), np.ones((7, 8), int))[:41, :37].astype(np.uint8)
        masks = [crop_mask(frame) for frame in frames]
        masks[1] = masks[1]._replace(pixels=np.asfortranarray(masks[1].pixels))
        assert np.array_equal(draw_masks(masks, (41, 37)), frames)
        found = derive_edges(masks[:5], masks[5:], sem_seg, (41, 37), ignore_value=ignore_value)
        covered = frames[:5].any(0)
        unknown = ((sem_seg == ignore_value) | frames[5]) & ~covered
        assert np.array_equal(found, edges_from_ids(id_map(frames[:5], sem_seg), unknown))


@pytest.mark.parametrize(
    ("option", "key"),
    [({"kind": "thick"}, "KIND"), ({"radius": 0}, "RADIUS"), ({"source": "x"}, "SOURCE"), ({"eta": 0.0}, "ETA")],
)
def test_a_wrong_option_names_its_key(option, key):
    with pytest.raises(ValueError, match=rf"INPUT.MTL.EDGE.{key} is .*, expected "):
        EdgeLabel(**option)


def test_a_config_sets_the_kind():
    edge = setup_cfg(str(CONFIG)).INPUT.MTL.EDGE
    assert (edge.KIND, edge.SOURCE) == ("radius", "instance")
