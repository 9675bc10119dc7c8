"""Objects pasted into another image: what holds of its labels afterwards."""

from dataclasses import replace

import numpy as np
import pytest
from detectron2.data import transforms as T

from mtl_d2.data.labelled_image import LabelledImage
from mtl_d2.data.masks import tight_boxes
from mtl_d2.data.paste import paste_objects, whole_objects
from mtl_d2.data.targets import edge_target
from mtl_d2.structures.box_masks import BoxMask, crop_mask, draw_masks
from mtl_d2.structures.edges import edges_from_ids, id_map

SEMANTIC_IDS = (1, 2)


def labelled(masks, size, *, seed=0, edge_source="union", **more):
    """An image of random pixels whose objects are of the classes 0, 1, 0, ..., semantic id 1 or 2, on ground 0."""
    rng = np.random.default_rng(seed)
    sem_seg = np.zeros(size, np.uint8)
    sem_seg[-2:] = 255
    for index, mask in enumerate(masks):
        sem_seg[mask] = SEMANTIC_IDS[index % 2]
    boxes = [crop_mask(mask) for mask in masks]
    return LabelledImage(
        **{
            "record": {"edge_source": edge_source},
            "fields": {},
            "transforms": T.TransformList([]),
            "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            "objects": [{"category_id": index % 2, "name": f"{seed}/{index}"} for index in range(len(masks))],
            "boxes": tight_boxes(boxes),
            "masks": boxes,
            "sem_seg": sem_seg,
            **more,
        }
    )


def random_masks(count, size, seed):
    """Ellipses, which overlap."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    centers, radii = rng.uniform(0, 1, (count, 2)) * size, rng.uniform(3, 15, (count, 2))
    masks = [
        ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1 for (cy, cx), (ry, rx) in zip(centers, radii, strict=True)
    ]
    return [mask for mask in masks if mask.any()]


def frames(image):
    return draw_masks(image.masks, image.size)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("offset", [(0, 0), (7, -11), (-20, 5)])
def test_what_holds_of_the_labels_after_pasting(seed, offset):
    target = labelled(random_masks(6, (61, 83), seed), (61, 83), seed=seed)
    source = labelled(random_masks(7, (54, 95), 100 + seed), (54, 95), seed=100 + seed)
    result = paste_objects(target, source, [4, 0, 2], offset, semantic_ids=SEMANTIC_IDS)
    masks, from_source = frames(result), [a["name"].startswith("10") for a in result.objects]
    pasted, old = masks[from_source], masks[~np.array(from_source)]
    assert len(pasted) and pasted.any((1, 2)).all() and old.any((1, 2)).all()
    assert pasted.sum(0).max() == 1  # a pasted pixel belongs to one object
    assert not (old & pasted.any(0)).any()
    covered = pasted.any(0)
    # The pixels are the source's where something was pasted, and the target's elsewhere.
    assert np.array_equal(result.image[~covered], target.image[~covered])
    ys, xs = np.nonzero(covered)
    assert np.array_equal(result.image[ys, xs], source.image[ys - offset[0], xs - offset[1]])
    # What is left of the target's objects is what was not covered, and those that vanished are gone.
    left = {f"{seed}/{i}": frame & ~covered for i, frame in enumerate(frames(target))}
    expected = {name: frame for name, frame in left.items() if frame.any()}
    assert [a["name"] for a, new in zip(result.objects, from_source, strict=True) if not new] == list(expected)
    assert np.array_equal(old, np.array(list(expected.values())).reshape(old.shape))
    assert np.array_equal(result.boxes, tight_boxes([crop_mask(mask) for mask in masks]))
    for annotation, mask, new in zip(result.objects, masks, from_source, strict=True):
        if new:
            assert (result.sem_seg[mask] == SEMANTIC_IDS[annotation["category_id"]]).all()
    assert np.array_equal(result.sem_seg[~covered], target.sem_seg[~covered])


@pytest.mark.parametrize("edge_source", ["instance", "semantic", "union"])
def test_derived_edges_are_those_of_the_resulting_ids(edge_source):
    target = labelled(random_masks(5, (61, 83), 1), (61, 83), edge_source=edge_source)
    source = labelled(random_masks(5, (61, 83), 2), (61, 83), seed=100)
    result = paste_objects(target, source, [0, 1, 2], (0, 0), semantic_ids=SEMANTIC_IDS)
    masks = frames(result) if edge_source != "semantic" else np.zeros((0, 61, 83), bool)
    sem_seg = result.sem_seg if edge_source != "instance" else None
    ignore = None if sem_seg is None else (sem_seg == 255) & ~masks.any(0)
    expected = edges_from_ids(id_map(masks, sem_seg, size=(61, 83)), ignore)
    found = edge_target(result, 255)
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, edge_target(target, 255))


def test_edges_from_a_file_get_the_outline_of_what_is_pasted():
    edge = np.zeros((9, 9), np.uint8)
    edge[:, 4] = 1
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:6] = True
    target = labelled([], (9, 9), edge=edge, edge_source="none")
    source = labelled([mask], (9, 9), seed=100)
    expected = edge.copy()
    expected[2:5, 3:6] = 0
    expected[1, 3:6] = expected[4, 3:6] = expected[2:5, 2] = expected[2:5, 5] = 1  # left and above lie outside
    assert np.array_equal(paste_objects(target, source, [0], (0, 0), semantic_ids=SEMANTIC_IDS).edge, expected)


def test_the_smaller_of_two_pasted_objects_lies_on_top():
    large, small = np.zeros((2, 12, 12), bool)
    large[1:10, 1:10] = small[4:6, 4:6] = True
    for order in ([large, small], [small, large]):
        result = paste_objects(labelled([], (12, 12)), labelled(order, (12, 12)), [0, 1], (0, 0), semantic_ids=(1, 2))
        found = {int(mask.sum()) for mask in frames(result)}
        assert found == {4, 77}


def test_a_covered_object_vanishes_and_one_outside_is_not_pasted():
    small, large = np.zeros((2, 20, 20), bool)
    small[8:10, 8:10] = large[5:15, 5:15] = True
    target, source = labelled([small], (20, 20)), labelled([large], (20, 20), seed=100)
    covered = paste_objects(target, source, [0], (0, 0), semantic_ids=SEMANTIC_IDS)
    assert [a["name"] for a in covered.objects] == ["100/0"]
    outside = paste_objects(target, source, [0], (-16, 0), semantic_ids=SEMANTIC_IDS)
    assert [a["name"] for a in outside.objects] == ["0/0"]
    assert np.array_equal(outside.image, target.image)


def test_absent_labels_stay_absent_and_nothing_is_changed_in_place():
    target = replace(labelled(random_masks(4, (40, 50), 0), (40, 50)), objects=None, masks=None, boxes=None)
    source = labelled(random_masks(4, (40, 50), 1), (40, 50), seed=100)
    before = [x.copy() for x in (target.image, target.sem_seg, source.image, *(m.pixels for m in source.masks))]
    result = paste_objects(target, source, [0, 1], (0, 0), semantic_ids=SEMANTIC_IDS)
    assert result.objects is None and result.masks is None and result.boxes is None and result.edge is None
    assert (result.sem_seg != target.sem_seg).any()
    assert paste_objects(labelled([], (40, 50), sem_seg=None), source, [0], (0, 0)).sem_seg is None
    after = [target.image, target.sem_seg, source.image, *(m.pixels for m in source.masks)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize("semantic_ids", [(), (None, None)])
def test_without_known_ids_the_sources_semantics_are_copied(semantic_ids):
    target = labelled([], (61, 83))
    source = labelled(random_masks(3, (61, 83), 1), (61, 83), seed=100)
    source.sem_seg[:] = np.random.default_rng(0).integers(0, 3, (61, 83))
    result = paste_objects(target, source, [0, 1, 2], (0, 4), semantic_ids=semantic_ids)
    ys, xs = np.nonzero(frames(result).any(0))
    assert np.array_equal(result.sem_seg[ys, xs], source.sem_seg[ys, xs - 4])


def test_pasted_objects_cover_crowds():
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    target = labelled([], (10, 10), crowds=[BoxMask(0, 0, np.ones((10, 10), bool))])
    result = paste_objects(target, labelled([mask], (10, 10)), [0], (0, 0), semantic_ids=SEMANTIC_IDS)
    assert np.array_equal(draw_masks(result.crowds, (10, 10))[0], ~mask)


def test_blending_is_a_weighted_mean_at_the_border_and_changes_no_label():
    mask = np.zeros((41, 41), bool)
    mask[10:31, 10:31] = True
    target, source = labelled([], (41, 41)), labelled([mask], (41, 41), seed=100)
    target.image[:], source.image[:] = 10, 200
    plain = paste_objects(target, source, [0], (0, 0), semantic_ids=SEMANTIC_IDS)
    blended = paste_objects(target, source, [0], (0, 0), semantic_ids=SEMANTIC_IDS, blend_sigma=2.0)
    assert (plain.image[mask] == 200).all() and (plain.image[~mask] == 10).all()
    row = blended.image[20, :21, 0].astype(int)
    assert row[0] == 10 and row[20] == 200 and (np.diff(row) >= 0).all()
    assert abs(row[9] + row[10] - 210) <= 1  # half-way between both at the border itself
    assert np.array_equal(blended.sem_seg, plain.sem_seg)
    assert np.array_equal(frames(blended), frames(plain))


def test_objects_that_a_border_cuts_are_whole_only_where_it_lies_on_the_targets():
    masks = np.zeros((5, 20, 30), bool)
    masks[0, 5:9, 5:9] = masks[1, 0:4, 5:9] = masks[2, 5:9, 26:30] = masks[3, 16:20, 10:14] = True  # 4 has no pixel
    source = labelled(list(masks), (20, 30), seed=100)
    assert whole_objects(source, labelled([], (20, 30)), (0, 0)) == [0, 1, 2, 3]
    assert whole_objects(source, labelled([], (25, 33)), (0, 0)) == [0, 1]
    assert whole_objects(source, labelled([], (25, 33)), (5, 3)) == [0, 2, 3]
    assert whole_objects(source, labelled([], (25, 33)), (2, 2)) == [0]
    assert whole_objects(source, labelled([], (11, 13)), (-3, -8)) == [0, 1]
    padded = replace(source, inside=(slice(0, 20), slice(0, 30)), image=np.zeros((40, 40, 3), np.uint8))
    assert whole_objects(padded, labelled([], (40, 40)), (0, 0)) == [0, 1]
