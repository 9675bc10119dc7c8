"""One-to-one matching of predicted and true edge pixels within a radius.

The matching has maximum cardinality: pairs are taken greedily by increasing distance, which is a few percent
short of the maximum, then augmenting paths (Berge's theorem) bring it there. The paths are searched breadth
first from all free pixels of the smaller side at once, as in Azad, Buluc and Pothen, "Computing maximum
cardinality matchings in parallel on bipartite graphs via tree-grafting", TPDS 2017, without the grafting.
"""

from dataclasses import dataclass

import numpy as np

FREE = -1


@dataclass(frozen=True)
class PixelGraph:
    """Which predicted pixel may be matched with which true pixel.

    Vertices are numbered in row-major order of the pixels. Rows of the two adjacency lists (compressed sparse
    rows: the neighbours of vertex i are ``neighbours[start[i]:start[i + 1]]``) are sorted by distance.
    """

    pred_start: np.ndarray  # (P + 1,)
    pred_neighbours: np.ndarray  # true pixels of each predicted one
    pred_rank: np.ndarray  # which offset leads there; offsets are sorted by distance
    true_start: np.ndarray  # (G + 1,)
    true_neighbours: np.ndarray  # predicted pixels of each true one

    @property
    def num_pred(self) -> int:
        return len(self.pred_start) - 1

    @property
    def num_true(self) -> int:
        return len(self.true_start) - 1


def match_pixels(pred: np.ndarray, gt: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Match predicted and true pixels one to one; as many pairs as there can be.

    Args:
        pred: (H, W), nonzero where an edge is predicted.
        gt: (H, W), nonzero where there is one.
        radius: greatest distance of a pair in pixels, inclusive. 0 matches a pixel with itself only.

    Returns:
        (H, W) bool of the matched predicted pixels, and the same of the true ones. Both have as many pixels
        set.

    Raises:
        ValueError: shapes differ, or the radius is negative or not finite.
    """
    graph = build_graph(np.flatnonzero(pred), np.flatnonzero(gt), _check_shapes(pred, gt), radius)
    matching = Matching(graph)
    matching.grow(np.ones(graph.num_pred, bool))
    return _as_mask(pred, matching.of_pred), _as_mask(gt, matching.of_true)


def _check_shapes(pred: np.ndarray, gt: np.ndarray) -> tuple[int, int]:
    if pred.ndim != 2 or pred.shape != gt.shape:
        raise ValueError(f"pred and gt must be (H, W) maps of one size, found {pred.shape} and {gt.shape}.")
    return pred.shape


def _as_mask(like: np.ndarray, matched_with: np.ndarray) -> np.ndarray:
    mask = like != 0
    mask[mask] = matched_with != FREE
    return mask


def disk_offsets(radius: float) -> np.ndarray:
    """(K, 2) integer (dy, dx) within the radius, by increasing distance."""
    if not (np.isfinite(radius) and radius >= 0):
        raise ValueError(f"the radius must be a finite number of pixels, at least 0, found {radius}.")
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squared = dy**2 + dx**2
    order = np.argsort(squared, kind="stable")
    return np.stack([dy, dx], axis=1)[order[squared[order] <= radius**2]]


def build_graph(pred: np.ndarray, gt: np.ndarray, shape: tuple[int, int], radius: float) -> PixelGraph:
    """The graph of predicted and true pixels, given as sorted flat indices into a map of ``shape``."""
    offsets = disk_offsets(radius)
    reach = int(radius)
    width = shape[1] + 2 * reach
    # A rim as wide as the radius makes every offset a fixed step in the flat array.
    number = np.full((shape[0] + 2 * reach) * width, FREE, np.int32)
    padded = [(flat // shape[1] + reach) * width + flat % shape[1] + reach for flat in (pred, gt)]
    number[padded[0]] = np.arange(pred.size, dtype=np.int32)
    pairs = [_pairs_at(number, padded[1] - (dy * width + dx)) for dy, dx in offsets.tolist()]
    rank = np.repeat(np.arange(len(pairs), dtype=np.int32), [len(p) for p, _ in pairs])
    pred_end = np.concatenate([p for p, _ in pairs])
    true_end = np.concatenate([g for _, g in pairs])
    pred_start, order = _rows(pred_end, pred.size)
    true_start, true_order = _rows(true_end, gt.size)
    return PixelGraph(pred_start, true_end[order], rank[order], true_start, pred_end[true_order])


def _pairs_at(number: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = number[positions]
    true_end = np.flatnonzero(found != FREE).astype(np.int32)
    return found[true_end], true_end


def _rows(ends: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    start = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(ends, minlength=count), out=start[1:])
    return start, np.argsort(ends, kind="stable")


class Matching:
    """A matching that can grow and lose pixels.

    ``of_pred[p]`` is the true pixel matched with predicted pixel p, ``of_true[g]`` the reverse, ``FREE`` if
    there is none. Growing never unmatches a pixel, on either side.
    """

    def __init__(self, graph: PixelGraph):
        self.graph = graph
        self.of_pred = np.full(graph.num_pred, FREE, np.int32)
        self.of_true = np.full(graph.num_true, FREE, np.int32)
        self._parent = np.empty(max(graph.num_pred, graph.num_true), np.int32)
        self._root = np.empty_like(self._parent)
        self._claim = np.empty_like(self._parent)

    def restrict(self, allowed: np.ndarray) -> None:
        """Unmatch the predicted pixels that are not in ``allowed``, a (P,) bool."""
        lost = np.flatnonzero((self.of_pred != FREE) & ~allowed)
        self.of_true[self.of_pred[lost]] = FREE
        self.of_pred[lost] = FREE

    def grow(self, allowed: np.ndarray) -> None:
        """Add pairs until no larger matching of all true and the ``allowed`` predicted pixels exists.

        Every predicted pixel that is matched already must be in ``allowed``, a (P,) bool.
        """
        graph = self.graph
        self._take_nearest(np.flatnonzero(allowed & (self.of_pred == FREE)))
        while True:
            free_pred = np.flatnonzero(allowed & (self.of_pred == FREE) & (np.diff(graph.pred_start) > 0))
            free_true = np.flatnonzero((self.of_true == FREE) & (np.diff(graph.true_start) > 0))
            if free_pred.size <= free_true.size:
                open_ends = np.ones(graph.num_true, bool)
                rows = (graph.pred_start, graph.pred_neighbours)
                found = self._augment(free_pred, rows, open_ends, self.of_pred, self.of_true)
            else:
                rows = (graph.true_start, graph.true_neighbours)
                found = self._augment(free_true, rows, allowed.copy(), self.of_true, self.of_pred)
            if not found:
                return

    def _take_nearest(self, free_pred: np.ndarray) -> None:
        """Greedy by distance. Pairs of one offset are disjoint, so each offset is one vectorised step."""
        edges, owner = _expand(self.graph.pred_start, free_pred)
        true_end = self.graph.pred_neighbours[edges]
        usable = self.of_true[true_end] == FREE
        rank, true_end, owner = self.graph.pred_rank[edges[usable]], true_end[usable], owner[usable]
        order = np.argsort(rank, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(rank[order])) + 1):
            p, g = owner[group], true_end[group]
            both_free = (self.of_pred[p] == FREE) & (self.of_true[g] == FREE)
            p, g = p[both_free], g[both_free]
            self.of_pred[p] = g
            self.of_true[g] = p

    def _augment(
        self,
        roots: np.ndarray,
        rows: tuple[np.ndarray, np.ndarray],
        unseen: np.ndarray,
        of_near: np.ndarray,
        of_far: np.ndarray,
    ) -> bool:
        """Grow alternating trees from all roots at once, flip a path in each that reaches a free vertex.

        "Near" is the roots' side. The trees share no vertex, hence the paths do not either. False, if no tree
        reaches one: then no larger matching exists.
        """
        parent, root = self._parent, self._root
        root[roots] = roots
        growing = np.zeros(of_near.size, bool)
        growing[roots] = True
        ends = []
        near = roots
        while near.size:
            edges, owner = _expand(rows[0], near)
            far = rows[1][edges]
            new = unseen[far]
            far, owner = self._first_claims(far[new], owner[new])
            unseen[far] = False
            parent[far] = owner
            is_end = of_far[far] == FREE
            end_root, end = self._first_claims(root[owner[is_end]], far[is_end])
            growing[end_root] = False
            ends.append(end)
            owner, near = owner[~is_end], of_far[far[~is_end]]
            root[near] = root[owner]
            near = near[growing[root[near]]]
        end = np.concatenate(ends) if ends else roots[:0]
        found = bool(end.size)
        while end.size:
            owner = parent[end]
            previous = of_near[owner].copy()
            of_near[owner], of_far[end] = end, owner
            end = previous[previous != FREE]
        return found

    def _first_claims(self, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One (key, value) for each key."""
        position = np.arange(keys.size, dtype=np.int32)
        self._claim[keys[::-1]] = position[::-1]
        first = self._claim[keys] == position
        return keys[first], values[first]


def _expand(start: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the edges of some rows, and for each edge the row that it belongs to."""
    length = start[rows + 1] - start[rows]
    total = np.cumsum(length)
    edges = np.arange(total[-1] if total.size else 0) + np.repeat(start[rows] - total + length, length)
    return edges, np.repeat(rows, length)
