"""Arrays that several parts share: edge labels, thinning, non-maximum suppression, edges of gradients, masks within
their boxes, label maps on disk."""

from .box_masks import BoxMask, BoxMasks
from .bsds import read_bsds_boundaries
from .edge_nms import edge_nms
from .edges import downsample_edges, edge_consensus, edge_files, edges_from_ids, id_map
from .gradient_edges import canny_edges, sobel_edges
from .label_maps import LabelMapError, read_label_map, read_semantic_ids
from .thinning import thin

__all__ = [
    "BoxMask",
    "BoxMasks",
    "LabelMapError",
    "canny_edges",
    "downsample_edges",
    "edge_consensus",
    "edge_files",
    "edge_nms",
    "edges_from_ids",
    "id_map",
    "read_bsds_boundaries",
    "read_label_map",
    "read_semantic_ids",
    "sobel_edges",
    "thin",
]
