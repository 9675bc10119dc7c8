import numpy as np
import pytest
import torch

from mtl_d2.structures import downsample_edges, edge_consensus, edge_files, edges_from_ids, id_map
from mtl_d2.structures import edges as edges_module

X = 255


def test_edge_lies_left_of_and_above_the_change():
    ids = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert edges_from_ids(ids).tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_pairs_with_an_ignored_pixel_are_ignored_unless_the_other_pair_is_an_edge():
    ids = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    ignore = np.zeros((3, 3), bool)
    ignore[0, 2] = True
    assert edges_from_ids(ids, ignore).tolist() == [[0, X, X], [1, 1, 1], [0, 0, 0]]


def test_everything_ignored_has_no_known_pixel():
    assert (edges_from_ids(np.arange(6).reshape(2, 3), np.ones((2, 3), bool)) == X).all()


def test_border_is_no_edge_and_one_id_has_none():
    assert not edges_from_ids(np.full((4, 5), 7)).any()
    assert edges_from_ids(np.zeros((0, 3), np.int32)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_ids_that_agree_in_their_low_byte_differ(dtype):
    ids = np.array([[1, 257, 513, 257 * 3]], dtype)
    assert edges_from_ids(ids).tolist() == [[1, 1, 1, 0]]


def test_every_step_between_neighbours_has_one_edge_pixel():
    ids = np.random.default_rng(0).integers(0, 400, (20, 30)).repeat(2, 0)
    expected = np.zeros(ids.shape, bool)
    for y, x in np.ndindex(ids.shape):
        beside = [ids[y, x + 1]] if x + 1 < 30 else []
        below = [ids[y + 1, x]] if y + 1 < 40 else []
        expected[y, x] = any(other != ids[y, x] for other in beside + below)
    assert (edges_from_ids(ids) == expected).all()


def test_wrong_ids_are_named():
    with pytest.raises(ValueError, match="float64"):
        edges_from_ids(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="ignore must have the shape"):
        edges_from_ids(np.zeros((2, 2), int), np.zeros((2, 3), bool))


def test_smaller_instance_is_on_top_over_dense_semantics():
    small, large = np.zeros((2, 2, 3), bool)
    small[0, 0] = True
    large[:, :2] = True
    sem_seg = np.array([[7, 7, 255], [7, 7, 7]], np.uint8)
    expected = [[2, 3, 1], [3, 3, 0]]
    assert id_map([small, large], sem_seg).tolist() == expected
    assert id_map(np.stack([small, large]), sem_seg, areas=[1, 4]).tolist() == expected
    assert id_map([small, large]).tolist() == [[1, 2, 0], [2, 2, 0]]


def test_more_than_255_instances_keep_their_own_ids():
    masks = np.eye(400, dtype=bool).reshape(400, 20, 20)
    assert len(np.unique(id_map(masks))) == 400


def test_id_map_of_nothing_needs_a_size():
    assert id_map([], size=(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert id_map(np.zeros((0, 2, 3), bool)).shape == (2, 3)
    with pytest.raises(ValueError, match="size"):
        id_map([])


def test_downsampled_cell_prefers_edge_then_known():
    edge = torch.tensor([[[0, X, X], [0, 1, X], [X, X, 0]]])
    assert downsample_edges(edge, 2).tolist() == [[[1, X], [X, 0]]]
    assert downsample_edges(edge, 1) is edge
    assert downsample_edges(torch.tensor([[[0, X]]]), 2).tolist() == [[[0]]]


def test_a_consensus_ignores_where_less_than_the_threshold_drew_an_edge():
    votes = np.array([[0, 1, 2, 3, 4]])
    edges = [(votes > annotator) * np.uint8(255) for annotator in range(4)]
    assert edge_consensus(edges).tolist() == [[0, 255, 1, 1, 1]]
    assert edge_consensus(edges, threshold=0.75).tolist() == [[0, 255, 255, 1, 1]]
    assert edge_consensus(edges, threshold=0.01).tolist() == [[0, 1, 1, 1, 1]]
    assert edge_consensus(edges[:3]).tolist() == [[0, 255, 1, 1, 1]]  # half of three is two


def test_one_annotators_edges_stay_as_they_are():
    edge = np.random.default_rng(0).integers(0, 2, (5, 7))
    assert np.array_equal(edge_consensus([edge * 255]), edge)


@pytest.mark.parametrize("edges", [[], [np.zeros((2, 3)), np.zeros((3, 2))]])
def test_a_consensus_needs_maps_of_one_size(edges):
    with pytest.raises(ValueError, match="one map or more of one size"):
        edge_consensus(edges)


def test_a_record_names_one_file_or_one_of_each_annotator():
    assert edge_files({"edge_file_name": "a.png"}) == ["a.png"]
    assert edge_files({"edge_file_name": ("a.png", "b.png")}) == ["a.png", "b.png"]


def _pair_by_pair(ids, ignore):
    label = np.where(ignore, X, 0).astype(np.uint8)
    for y, x in np.argwhere(~ignore).tolist():
        pairs = [(y, x + 1)] * (x + 1 < ids.shape[1]) + [(y + 1, x)] * (y + 1 < ids.shape[0])
        if any(ignore[pair] for pair in pairs):
            label[y, x] = X
        if any(ids[pair] != ids[y, x] and not ignore[pair] for pair in pairs):
            label[y, x] = 1
    return label


@pytest.mark.parametrize("block", [1, 7, 40, 10**6])
@pytest.mark.parametrize("order", ["C", "F"])
def test_equals_the_comparison_of_each_pair_however_many_rows_are_compared_at_a_time(block, order, monkeypatch):
    monkeypatch.setattr(edges_module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    for size in ((9, 11), (1, 11), (11, 1), (20, 7)):
        ids = np.asarray(rng.integers(0, 3, size), order=order)
        for share in (0, 0.05, 0.5, 1):
            ignore = np.asarray(rng.random(size) < share, order=order)
            before = ignore.copy()
            assert np.array_equal(edges_from_ids(ids, ignore), _pair_by_pair(ids, ignore))
            assert np.array_equal(ignore, before)
            if not share:
                assert np.array_equal(edges_from_ids(ids), _pair_by_pair(ids, ignore))
