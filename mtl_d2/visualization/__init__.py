"""Pictures of what the network says about an image, beside its labels."""

from mtl_d2.visualization.labels import read_labels
from mtl_d2.visualization.own_cells import register_cell
from mtl_d2.visualization.panel import draw_overview, draw_panel

__all__ = ["draw_overview", "draw_panel", "read_labels", "register_cell"]
