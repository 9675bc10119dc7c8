"""Arrays that several parts share: edge labels, thinning, non-maximum suppression, masks within their boxes."""

from .box_masks import BoxMask, BoxMasks
from .edge_nms import edge_nms, sobel_edges
from .edges import downsample_edges, edges_from_ids, id_map
from .thinning import thin

__all__ = ["BoxMask", "BoxMasks", "downsample_edges", "edge_nms", "edges_from_ids", "id_map", "sobel_edges", "thin"]
