"""Maps at other resolutions, so that a pixel stays where it is."""

from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


def fit(x: Tensor, size: Size) -> Tensor:
    """A map of exactly this height and width, from the same upper left corner.

    What is too much is cut off at the right and below; what lacks, because a stride rounded the size down, repeats the
    last column and row. To stretch the map would shift everything in it.

    Args:
        x: (N, C, h, w).
    """
    height, width = size
    x = x[..., :height, :width]
    below, right = height - x.shape[-2], width - x.shape[-1]
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def upsample(x: Tensor, factor: int, size: Size | None = None) -> Tensor:
    """Bilinear, by a whole factor, and then of exactly that size where one is given."""
    if factor > 1:
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return x if size is None else fit(x, size)


def size_of(x: Tensor) -> Size:
    """Height and width of a map (..., H, W)."""
    return x.shape[-2], x.shape[-1]
