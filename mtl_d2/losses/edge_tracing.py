"""An edge loss that draws predictions onto the labelled line: it looks at the pixels around each, not at one alone."""

import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32, image_mean
from .edge import IGNORE, rcf_loss

TRACING_WINDOW = 9
TEXTURE_WINDOW = 3
_EPS = 1e-12  # in logarithms; far below every probability that float32's sigmoid tells from 0 in training


def tracing_loss(
    logits: Tensor, targets: Tensor, *, boundary_weight: float = 4.0, texture_weight: float = 0.01
) -> Tensor:
    """`rcf_loss` + boundary_weight * boundary tracing + texture_weight * texture suppression.

    "Unmixing Convolutional Features for Crisp Edge Detection" (CATS, Huan et al. 2021), the tracing loss, with
    the weights of its fused output. With p the probability and W(i) the 9x9 window around pixel i:

    - boundary tracing: -sum_{i in P} log(sum_{W(i) and P} p / sum_{W(i)} p): near an edge, the probability
      lies on the edge.
    - texture suppression: -sum_{i far} log(1 - mean p of the 3x3 window around i), far the pixels without an
      edge in W(i): where no edge is near, there is no response.

    Each sum is divided by the image's valid pixels, as RCF's term is, so that the ratio of the three is the
    paper's. Our reading: ignored pixels are as if the image ended there, so that padding changes nothing (a
    mean is over the valid pixels of its window), and an image without an edge has no texture term, as it has
    none of the other two.

    Peak memory: no tensor is larger than the logits in float32 (no window is unfolded), and 17 of that size at most
    are kept for the backward pass: 68 MiB for 1024x1024.

    Args:
        logits: (N, H, W), any float type; float32 is used inside.
        targets: (N, H, W) in {0, 1, 255}.
        boundary_weight, texture_weight: >= 0.

    Returns:
        Scalar >= 0.
    """
    valid = targets != IGNORE
    scores = at_least_float32(logits).masked_fill(~valid, 0)
    edges = targets == 1
    others = valid & ~edges
    probs = scores.sigmoid()
    on_edge = _window_sum(probs * edges, TRACING_WINDOW)
    beside = _window_sum(probs * others, TRACING_WINDOW)
    boundary = ((on_edge + beside + _EPS).log() - (on_edge + _EPS).log()) * edges
    far = others & (_window_sum(edges.to(probs), TRACING_WINDOW) < 0.5) & edges.flatten(1).any(1)[:, None, None]
    # 1 - p as sigmoid(-s): exact where p rounds to 1.
    quiet = _window_sum((-scores).sigmoid() * valid, TEXTURE_WINDOW)
    counted = _window_sum(valid.to(probs), TEXTURE_WINDOW).clamp(min=1)
    texture = -(quiet / counted + _EPS).log() * far
    return rcf_loss(logits, targets) + image_mean(boundary_weight * boundary + texture_weight * texture, valid)


def _window_sum(values: Tensor, size: int) -> Tensor:
    """Sum over the size x size window around each pixel, zeros outside the image; (N, H, W) as given."""
    rows = F.avg_pool2d(values.unsqueeze(1), (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(rows, (1, size), stride=1, padding=(0, size // 2)).squeeze(1) * size**2
