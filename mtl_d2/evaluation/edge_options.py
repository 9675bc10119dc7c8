"""How edges are scored."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EdgeOptions:
    """How edge maps are scored; the defaults are those of the BSDS benchmark.

    Attributes:
        max_dist: matching radius as a fraction of the image diagonal, in (0, 1).
        nms: whether to apply ``edge_nms`` first; a map that is thin already does without.
        thin: whether to thin each binary map.
        thresholds: number of thresholds T, which are k / (T + 1), k = 1 .. T.
        half_tolerance: whether to score at half of ``max_dist`` too.
        crisp: whether to score the maps as they are too, with neither suppression nor thinning.

    Raises:
        ValueError: ``max_dist`` or ``thresholds`` is out of its range.
    """

    max_dist: float = 0.0075
    nms: bool = True
    thin: bool = True
    thresholds: int = 99
    half_tolerance: bool = True
    crisp: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.max_dist < 1:
            raise ValueError(
                f"max_dist must be a fraction of the image diagonal above 0 and below 1, found {self.max_dist}: "
                "the benchmark's is 0.0075."
            )
        if self.thresholds < 1:
            raise ValueError(f"thresholds must be 1 or more, found {self.thresholds}: the benchmark has 99.")
