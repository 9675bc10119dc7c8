"""Pictures of what the network says about an image, beside its labels."""

from mtl_d2.visualization.labels import read_labels
from mtl_d2.visualization.overlay import draw_overlay
from mtl_d2.visualization.own_cells import register_cell
from mtl_d2.visualization.panel import draw_overview, draw_panel
from mtl_d2.visualization.reduce import reduce_for_drawing

__all__ = [
    "draw_overlay",
    "draw_overview",
    "draw_panel",
    "read_labels",
    "reduce_for_drawing",
    "register_cell",
]
