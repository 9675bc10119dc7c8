import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.structures import BoxMasks
from mtl_d2.structures.box_masks import crop_mask
from mtl_d2.visualization import draw_overlay, draw_overview, draw_panel, read_labels, reduce_for_drawing
from mtl_d2.visualization.canvas import drawing_scale, palette_color
from mtl_d2.visualization.panel import GAP, TITLE_HEIGHT

HEIGHT, WIDTH = 32, 48
SCALE = 11  # 512 / 48, rounded
DISK = (slice(4, 20), slice(6, 22))


@pytest.fixture
def metadata():
    return Metadata().set(thing_classes=["disk", "star"], stuff_classes=["grass", "disk", "sky"], stuff_ids=[0, 2])


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def _mask():
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[DISK] = True
    return mask


@pytest.fixture
def prediction():
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor([[6.0, 4, 22, 20], [0, 0, 9, 9]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9, 0.1]), torch.tensor([0, 1])
    instances.pred_masks = torch.as_tensor(np.stack([_mask(), _mask()]))
    sem_seg = torch.zeros(3, HEIGHT, WIDTH)
    sem_seg[2, :16], sem_seg[0, 16:] = 1, 1
    ids = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
    ids[DISK] = 2
    segments = [{"id": 1, "isthing": False, "category_id": 0}, {"id": 2, "isthing": True, "category_id": 0}]
    edge = torch.rand(HEIGHT, WIDTH)
    return {"instances": instances, "sem_seg": sem_seg, "edge": edge, "panoptic_seg": (ids, segments)}


@pytest.fixture
def record(tmp_path):
    rle = mask_util.encode(np.asfortranarray(_mask().astype(np.uint8)))
    crowd = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    crowd[24:] = 1
    box = {"bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    semantic = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    semantic[DISK], semantic[:, 40:] = 1, 255
    Image.fromarray(semantic).save(tmp_path / "semantic.png")
    return {
        "file_name": "a.png",
        "image_id": 1,
        "height": HEIGHT,
        "width": WIDTH,
        "annotations": [
            {**box, "bbox": [6, 4, 16, 16], "segmentation": rle},
            {
                **box,
                "bbox": [0, 24, 48, 8],
                "segmentation": mask_util.encode(np.asfortranarray(crowd)),
                "iscrowd": 1,
            },
        ],
        "sem_seg_file_name": str(tmp_path / "semantic.png"),
        "edge_source": "union",
    }


def _size(rows, columns):
    height = rows * (HEIGHT * SCALE + TITLE_HEIGHT + GAP)
    return (height, columns * (WIDTH * SCALE + GAP) + GAP, 3)


def _cell(panel, row, column):
    top = row * (HEIGHT * SCALE + TITLE_HEIGHT + GAP) + TITLE_HEIGHT
    left = GAP + column * (WIDTH * SCALE + GAP)
    return panel[top : top + HEIGHT * SCALE, left : left + WIDTH * SCALE]


def test_panel_with_labels_has_two_rows(image, prediction, metadata, record):
    labels = read_labels(record, read_edges=ground_truth_edges)
    panel = draw_panel(image, prediction, metadata, labels=labels, name="a.png")
    assert panel.shape == _size(2, 5) and panel.dtype == np.uint8


@pytest.mark.parametrize("task", ["instances", "sem_seg", "edge", "panoptic_seg"])
def test_missing_task_has_no_cell(image, prediction, metadata, task):
    whole = draw_panel(image, prediction, metadata)
    assert whole.shape == _size(1, 6)  # input, four answers, legend
    del prediction[task]
    assert draw_panel(image, prediction, metadata).shape == _size(1, 5)
    # Without semantics there is no legend either.
    alone = draw_panel(image, {"edge": torch.zeros(HEIGHT, WIDTH)}, Metadata())
    assert alone.shape == _size(1, 2)


def test_instances_below_the_threshold_are_not_drawn(image, prediction, metadata):
    instances = {"instances": prediction["instances"]}
    one = draw_panel(image, instances, metadata, score_threshold=0.5)
    both = draw_panel(image, instances, metadata, score_threshold=0.05)
    none = draw_panel(image, instances, metadata, score_threshold=0.95)
    assert (_cell(none, 0, 1) == _cell(none, 0, 0)).all()
    assert (_cell(one, 0, 1) != _cell(none, 0, 1)).any() and (_cell(one, 0, 1) != _cell(both, 0, 1)).any()


def test_panel_does_not_change_its_inputs(image, prediction, metadata, record):
    labels = read_labels(record)
    before = image.copy(), prediction["edge"].clone(), labels["sem_seg"].copy()
    draw_panel(image, prediction, metadata, labels=labels)
    assert (image == before[0]).all() and (labels["sem_seg"] == before[2]).all()
    assert torch.equal(prediction["edge"], before[1]) and len(prediction["instances"]) == 2


def test_edges_are_dark_on_white_and_survive_reduction(metadata):
    edge = torch.zeros(1500, 1000)
    edge[:, 500] = 1
    panel = draw_panel(np.zeros((1500, 1000, 3), np.uint8), {"edge": edge}, metadata)
    height, width = 512, round(1000 * 512 / 1500)
    cell = panel[TITLE_HEIGHT : TITLE_HEIGHT + height, 2 * GAP + width : 2 * GAP + 2 * width]
    assert (cell.min(axis=(1, 2)) == 0).all() and (cell == 255).mean() > 0.98


def test_empty_predictions_and_labels_are_drawn(image, metadata, record):
    empty = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    empty.pred_classes, empty.pred_masks = torch.zeros(0, dtype=torch.long), torch.zeros(0, HEIGHT, WIDTH)
    void = (torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), [])
    record["annotations"] = []
    labels = read_labels(record, read_edges=ground_truth_edges)
    assert len(labels["instances"]) == 0
    panel = draw_panel(image, {"instances": empty, "panoptic_seg": void}, metadata, labels=labels)
    assert panel.shape == _size(2, 5)


def test_labels_are_read_in_the_records_size(record):
    labels = read_labels(record, read_edges=ground_truth_edges)
    assert len(labels["instances"]) == 1 and labels["instances"].gt_masks.tensor[0].sum() == 256
    edge = labels["edge"]
    assert edge[3, 6] == edge[10, 21] == 1 and edge[10, 10] == 0
    assert edge[10, 45] == 255 and edge[30, 5] == 255  # void and crowd


def test_absent_labels_are_absent(record):
    for key in ("annotations", "sem_seg_file_name", "edge_source"):
        del record[key]
    assert read_labels(record, read_edges=ground_truth_edges) == {}
    assert read_labels({**record, "edge_source": "none"}, read_edges=ground_truth_edges) == {}


def test_boxes_without_masks_are_drawn(image, metadata, record):
    del record["annotations"][0]["segmentation"], record["edge_source"]
    labels = read_labels(record)
    assert not labels["instances"].has("gt_masks")
    assert draw_panel(image, {}, metadata, labels=labels).shape == _size(2, 3)


def test_overview_stacks_panels_of_different_sizes():
    panels = [np.zeros((100, 3600, 3), np.uint8), np.zeros((60, 1200, 3), np.uint8)]
    overview = draw_overview(panels, width=1800)
    assert overview.shape == (50 + GAP + 30 + GAP, 1800, 3)
    assert (overview[60, 700:] == 255).all()


def test_scale_and_colours():
    assert [drawing_scale(*size) for size in ((192, 192), (256, 250), (512, 100), (1024, 2048))] == [
        3,
        2,
        1,
        0.25,
    ]
    assert len({palette_color(i) for i in range(60)}) == 60


def test_an_answer_of_a_users_own_is_drawn_in_a_column_beside_its_label(
    image, prediction, metadata, record, monkeypatch
):
    from mtl_d2.visualization import own_cells, register_cell

    def draw(value):
        return np.full((4, 5, 3), value, np.uint8)

    before = draw_panel(image, prediction, metadata, labels=read_labels(record))
    monkeypatch.setitem(own_cells.OWN_CELLS, "own", None)  # so that it is removed afterwards
    register_cell("own", "own answer", draw, read_label=lambda record: 77)
    labels = read_labels(record)
    assert labels["own"] == 77
    panel = draw_panel(image, {**prediction, "own": 33}, metadata, labels=labels)
    added = panel[:, before.shape[1] :]
    assert panel.shape[0] == before.shape[0] and added.shape[1] > 0
    rows = [added[: len(added) // 2], added[len(added) // 2 :]]
    assert [(row == value).all(axis=2).sum() > 1000 for row, value in zip(rows, (33, 77), strict=True)] == [True, True]


@pytest.fixture
def compact(prediction):
    """The same prediction in the form for large images."""
    instances = prediction["instances"]
    small = Instances((HEIGHT, WIDTH), pred_boxes=instances.pred_boxes, scores=instances.scores)
    small.pred_classes = instances.pred_classes
    small.pred_box_masks = BoxMasks([crop_mask(mask) for mask in instances.pred_masks.numpy()], (HEIGHT, WIDTH))
    labels, edge = prediction["sem_seg"].argmax(0).byte(), prediction["edge"].half()
    return {**prediction, "instances": small, "sem_seg": labels, "edge": edge}


def test_compact_predictions_give_the_same_panel(image, prediction, compact, metadata):
    full = draw_panel(image, prediction, metadata).astype(int)
    assert np.abs(draw_panel(image, compact, metadata) - full).max() <= 1  # edges are of half precision


@pytest.mark.parametrize("form", ["prediction", "compact"])
def test_reduced_predictions_are_where_they_were(image, request, form):
    prediction = request.getfixturevalue(form)
    prediction["edge"][:] = 0
    prediction["edge"][9, 31] = 1
    small_image, small = reduce_for_drawing(image, prediction, long_side=24)
    assert small_image.shape == (16, 24, 3)
    instances = small["instances"]
    assert instances.image_size == (16, 24) and instances.pred_boxes.tensor[0].tolist() == [3, 2, 11, 10]
    masks = instances.pred_masks.numpy() if form == "prediction" else list(instances.pred_box_masks)
    expected = np.zeros((16, 24), bool)
    expected[2:10, 3:11] = True
    assert len(masks) == 2 and all(np.array_equal(mask, expected) for mask in masks)
    labels = small["sem_seg"].argmax(0) if form == "prediction" else small["sem_seg"]
    assert (labels[:8] == 2).all() and (labels[8:] == 0).all()
    assert small["edge"].sum() == 1 and small["edge"][4, 15] == 1  # the strongest of 2 x 2 stays
    assert np.array_equal(small["panoptic_seg"][0] == 2, expected)
    assert reduce_for_drawing(image, prediction, long_side=48)[0] is image


def test_overlay_has_the_images_size_and_shows_each_task(image, prediction, metadata):
    nothing = draw_overlay(image, {}, metadata)
    assert np.array_equal(nothing, image) and nothing is not image
    for task in ("instances", "sem_seg", "edge"):
        overlay = draw_overlay(image, {task: prediction[task]}, metadata)
        assert overlay.shape == image.shape and overlay.dtype == np.uint8 and (overlay != image).any()
    edges = draw_overlay(image, {"edge": prediction["edge"]}, metadata)
    assert (edges[prediction["edge"].numpy() > 0.5] == 255).all()
    hidden = draw_overlay(image, {"instances": prediction["instances"]}, metadata, score_threshold=0.95)
    assert np.array_equal(hidden, image)
