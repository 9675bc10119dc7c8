"""Arrays that data, modeling and evaluation share: edge labels, thinning, non-maximum suppression."""

from .edge_nms import edge_nms, sobel_edges
from .edges import downsample_edges, edges_from_ids, id_map
from .thinning import thin

__all__ = ["downsample_edges", "edge_nms", "edges_from_ids", "id_map", "sobel_edges", "thin"]
