import numpy as np
import pytest

from mtl_d2.structures.edge_kinds import EDGE_KINDS, dilate_edges, edges_in_radius, edges_of_kind, widen_edges
from mtl_d2.structures.edges import EDGE, IGNORE, edges_from_ids
from mtl_d2.structures.neighbourhood import disc, square

X = IGNORE


def by_definition(ids, ignore, radius):
    """Each pixel against each one at a distance of at most ``radius``."""
    label = np.zeros(ids.shape, np.uint8)
    places = list(np.ndindex(ids.shape))
    for p in places:
        near = [q for q in places if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= radius**2]
        if ignore[p] or any(ignore[q] for q in near):
            label[p] = IGNORE
        if not ignore[p] and any(ids[q] != ids[p] for q in near if not ignore[q]):
            label[p] = EDGE
    return label


def _scene(rng, size=(13, 17)):
    ids = np.kron(rng.integers(0, 4, (5, 5)), np.ones((4, 4), int))[: size[0], : size[1]]
    ignore = np.kron(rng.random((7, 9)) < 0.15, np.ones((2, 2))).astype(bool)[: size[0], : size[1]]
    return ids, ignore


def test_radius_by_hand():
    ids = np.array([[1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1]])
    assert edges_in_radius(ids, None, 1).tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]]
    # At a distance of 2, and of the square root of 2: (1, 3) sees (0, 4).
    assert edges_in_radius(ids, None, 2).tolist() == [[0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1]]


def test_radius_beside_void_by_hand():
    ids = np.array([[1, 1, 9, 2, 2, 2, 2, 2, 3]])
    assert edges_in_radius(ids, ids == 9, 1).tolist() == [[0, X, X, X, 0, 0, 0, 1, 1]]
    # Across one column of void both objects see each other: there is a border in between.
    assert edges_in_radius(ids, ids == 9, 2).tolist() == [[X, 1, X, 1, X, 0, 1, 1, 1]]


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_radius_equals_the_definition(radius):
    for seed in range(3):
        ids, ignore = _scene(np.random.default_rng(seed))
        assert np.array_equal(edges_in_radius(ids, ignore, radius), by_definition(ids, ignore, radius))


def test_dilated_by_hand():
    edge = np.array([[0, 0, 0, 0, 1, 0, 0, X, X, 0]], np.uint8)
    assert dilate_edges(edge, square(1)).tolist() == [[0, 0, 0, 1, 1, 1, X, X, X, X]]
    assert dilate_edges(edge, square(3)).tolist() == [[0, 1, 1, 1, 1, 1, 1, X, X, X]]  # ignored stays ignored
    edge = np.zeros((5, 5), np.uint8)
    edge[2, 2] = 1
    assert np.array_equal(dilate_edges(edge, square(1)).astype(bool), np.pad(np.ones((3, 3), bool), 1))
    assert np.array_equal(widen_edges(edge, "dilated", 1), dilate_edges(edge, square(1)))
    assert np.array_equal(widen_edges(edge, "radius", 2), disc(2))
    assert widen_edges(edge, "thin", 2) is edge


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_commutes_with_the_two_sided_kind_alone(axis):
    ids, ignore = _scene(np.random.default_rng(0))
    flipped = np.flip(ids, axis), np.flip(ignore, axis)
    for radius in (1, 2):
        found = edges_in_radius(*flipped, radius)
        assert np.array_equal(np.flip(found, axis), edges_in_radius(ids, ignore, radius))
    thin, of_flipped = edges_from_ids(ids, ignore), edges_from_ids(*flipped)
    assert not np.array_equal(np.flip(of_flipped, axis), thin)  # the edge is on the other side of each border
    widened = dilate_edges(thin, square(1))
    assert np.array_equal(np.flip(dilate_edges(np.flip(thin, axis), square(1)), axis), widened)


@pytest.mark.parametrize("kind", EDGE_KINDS)
def test_what_is_ignored_is_no_edge(kind):
    for seed in range(5):
        ids, ignore = _scene(np.random.default_rng(seed))
        label = edges_of_kind(ids, ignore, kind, 2)
        assert (label[ignore] == IGNORE).all()
        assert set(np.unique(label)) <= {0, EDGE, IGNORE} and label.dtype == np.uint8
        assert (label == EDGE).any()
        everything = edges_of_kind(ids, np.ones_like(ignore), kind, 2)
        assert (everything == IGNORE).all()
        assert not edges_of_kind(np.ones_like(ids), None, kind, 2).any()


@pytest.mark.parametrize("kind", EDGE_KINDS)
@pytest.mark.parametrize("size", [(0, 4), (4, 0), (1, 1), (1, 7), (7, 1)])
def test_sizes_without_room(kind, size):
    ids = np.arange(size[0] * size[1]).reshape(size)
    label = edges_of_kind(ids, None, kind, 1)
    assert label.shape == size
    assert (label == EDGE).any() == (max(size) > 1 and min(size) > 0)


@pytest.mark.parametrize("kind", EDGE_KINDS)
def test_ids_beyond_sixteen_bits_stay_apart(kind):
    """Ids that are equal in their low 8 and 16 bits."""
    ids = np.repeat([[3, 3 + 2**8, 3 + 2**16, 3 + 2**24]], 3, axis=0).astype(np.int64)
    small = np.repeat([[0, 1, 2, 3]], 3, axis=0)
    assert np.array_equal(edges_of_kind(ids, None, kind, 1), edges_of_kind(small, None, kind, 1))
