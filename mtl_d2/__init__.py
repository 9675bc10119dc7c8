"""mtl_d2: several answers about an image from one network, as a Detectron2 extension."""

__version__ = "0.1.0"
