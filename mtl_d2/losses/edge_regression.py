"""Edge regression: edges that follow from a semantic prediction, regressed on the true ones.

Our reading of the equations in docs/edge_regression.md. P_w(p) is the probability of class w at pixel p, e(p) the
true edge, both on one grid; e_j steps to the right or to the lower neighbour, so that a difference belongs to the
half-pixel position between the two. As in the labels, an edge is the left (upper) pixel of a pair that differs.

All take probabilities (N, K, H, W) or logits of that shape, any float type (float32 is used inside), and targets
(N, H, W) in {0, 1, 255}: other, edge, ignored. A pair with an ignored pixel takes no part; neither does the image's
border. A scalar is the mean over each image's pixels (pairs), then over the images that have one: zero with a
gradient where there is none.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ._reduce import at_least_float32, image_mean, masked_mean
from .edge import IGNORE


def structure_edges(probs: Tensor, targets: Tensor) -> Tensor:
    """g(p) = 1 / |Omega| sum_{w in Omega} max_j |P_w(p + e_j) - P_w(p)|, Omega the classes present in the image.

    Our reading of equation 1. A class is present where it is the likeliest one at a valid pixel: no label says so, as
    a task's loss must not depend on another one's labels. Between two of more than two classes present g is at most
    2 / |Omega|.

    Returns:
        (N, H, W) in [0, 1].
    """
    right, lower = _differences(at_least_float32(probs), targets)
    present = _present(probs, targets)[:, :, None, None]
    change = torch.maximum(right.abs(), lower.abs()) * present
    return change.sum(1) / present.sum(1).clamp(min=1)


def total_variation_edges(probs: Tensor, targets: Tensor) -> Tensor:
    """g(p) = max_j 1/2 sum_w |P_w(p + e_j) - P_w(p)|: the total variation distance of two neighbours.

    The structures around p are then those that change between the two: what one class loses another one gains, so
    that each change counts twice, whence the 1/2. With two classes it is :func:`structure_edges`; with more it is 1
    between any two that are certain, however many others the image has.

    Returns:
        (N, H, W) in [0, 1].
    """
    right, lower = _differences(at_least_float32(probs), targets)
    return torch.maximum(right.abs().sum(1), lower.abs().sum(1)) / 2


PREDICTED_EDGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "structures": structure_edges,
    "total_variation": total_variation_edges,
}


def squared_edge_error(edges: Tensor, targets: Tensor) -> Tensor:
    """1 / |D| sum_{p in D} 1/2 (g(p) - e(p))^2 over the valid pixels D: the first term of equations 3 and 4.

    Args:
        edges: (N, H, W), predicted edges g in [0, 1].
    """
    valid = targets != IGNORE
    edges = at_least_float32(edges).masked_fill(~valid, 0)
    error = (edges - (targets == 1).to(edges.dtype)).square() / 2
    return image_mean(error, valid)


def edge_consistency(edges: Tensor, edge_probs: Tensor, targets: Tensor) -> Tensor:
    """1 / |D| sum_{p in D} 1/2 (g(p) - q(p))^2, with q(p) what an edge head says. Ours; no equation has it.

    Args:
        edges, edge_probs: (N, H, W) in [0, 1].
    """
    valid = targets != IGNORE
    difference = (at_least_float32(edges) - at_least_float32(edge_probs)).masked_fill(~valid, 0)
    return image_mean(difference.square() / 2, valid)


def edge_weighted_smoothness(probs: Tensor, targets: Tensor, *, beta: float = 5.0) -> Tensor:
    """f^T Lambda f = sum over neighbours (p, q) of w_pq |P(p) - P(q)|^2 / number of pairs, w_pq = exp(-beta max(e)).

    Our reading of the quadratic term of equations 3 and 4: Lambda is the graph Laplacian of the weights w, so that the
    prediction is smooth within a structure and free across an edge.

    Args:
        beta: at least 0, where 0 makes it as smooth across edges.
    """
    probs = at_least_float32(probs)
    edge = (targets == 1).to(probs.dtype)
    total, count = probs.new_zeros(len(probs)), probs.new_zeros(len(probs))
    for difference, pair, axis in zip(_differences(probs, targets), _valid_pairs(targets), (-1, -2), strict=True):
        weight = torch.exp(-beta * torch.maximum(edge, edge.roll(-1, axis))) * pair
        total = total + (weight * difference.square().sum(1)).flatten(1).sum(1)
        count = count + pair.flatten(1).sum(1)
    return masked_mean(total / count.clamp(min=1), count > 0)


def edge_regression_loss(
    logits: Tensor, targets: Tensor, *, smoothness: float = 0.1, beta: float = 5.0, edges: str = "structures"
) -> Tensor:
    """The squared error of the predicted edges plus lambda / 2 times the quadratic term: equation 4, our reading.

    Args:
        logits: (N, K, H, W) of the classes.
        smoothness: lambda, at least 0.
        beta: of :func:`edge_weighted_smoothness`.
        edges: a key of PREDICTED_EDGES.

    Raises:
        ValueError: an argument out of its range, or another size of logits than of targets.
    """
    check_edge_regression(smoothness, beta, edges)
    if logits.shape[:1] + logits.shape[2:] != targets.shape:
        raise ValueError(
            f"edge_regression_loss: logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}, "
            "expected (N, K, H, W) and (N, H, W)"
        )
    probs = class_probs(logits, targets)
    loss = squared_edge_error(PREDICTED_EDGES[edges](probs, targets), targets)
    return loss + smoothness / 2 * edge_weighted_smoothness(probs, targets, beta=beta) if smoothness else loss


def check_edge_regression(smoothness: float, beta: float, edges: str, where: str = "edge_regression_loss: ") -> None:
    """Raise ValueError for an argument of :func:`edge_regression_loss` out of its range; ``where`` precedes its name.

    Args:
        where: such as "MODEL.MTL.EDGE_COUPLING.", after which names are those of keys.
    """
    name = str.upper if where.endswith(".") else str
    for argument, value in (("smoothness", smoothness), ("beta", beta)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{where}{name(argument)} is {value}, expected a finite number of at least 0")
    if edges not in PREDICTED_EDGES:
        raise ValueError(f"{where}{name('edges')} is {edges!r}, expected one of {', '.join(PREDICTED_EDGES)}")


def class_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax over classes in float32; even where ignored, so that not even an inf there reaches the gradient."""
    return at_least_float32(logits).masked_fill((targets == IGNORE).unsqueeze(1), 0).softmax(dim=1)


def _differences(probs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """P(p + e_j) - P(p), (N, K, H, W) for the right and the lower neighbour; zero where the pair is out."""
    probs = probs.masked_fill((targets == IGNORE).unsqueeze(1), 0)
    right = F.pad(probs[..., 1:] - probs[..., :-1], (0, 1))
    lower = F.pad(probs[..., 1:, :] - probs[..., :-1, :], (0, 0, 0, 1))
    pairs = [pair.unsqueeze(1) for pair in _valid_pairs(targets)]
    return right.masked_fill(~pairs[0], 0), lower.masked_fill(~pairs[1], 0)


def _valid_pairs(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a pixel and its right (lower) neighbour are both in the image and valid, (N, H, W) bool."""
    valid = targets != IGNORE
    right = F.pad(valid[..., 1:] & valid[..., :-1], (0, 1))
    lower = F.pad(valid[..., 1:, :] & valid[..., :-1, :], (0, 0, 0, 1))
    return right, lower


def _present(probs: Tensor, targets: Tensor) -> Tensor:
    """(N, K) bool: the class is the likeliest one at a valid pixel of the image."""
    likeliest = F.one_hot(probs.detach().argmax(1), probs.shape[1])
    return (likeliest.bool() & (targets != IGNORE).unsqueeze(-1)).flatten(1, 2).any(1)
