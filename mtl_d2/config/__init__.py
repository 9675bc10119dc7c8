"""Every config key of mtl_d2, in nodes MTL of MODEL, INPUT, DATALOADER, SOLVER, TEST; Detectron2's defaults stay."""

from detectron2.config import CfgNode as CN

from .data import add_dataloader, add_input
from .model import add_model
from .scores import add_scores
from .solver import add_part, add_solver

__all__ = ["add_mtl_config", "add_part"]


def add_mtl_config(cfg: CN) -> None:
    """Add the keys of mtl_d2 to a Detectron2 config, in place."""
    add_model(cfg)
    add_input(cfg)
    add_dataloader(cfg)
    add_solver(cfg)
    add_scores(cfg)
