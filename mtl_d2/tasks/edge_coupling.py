"""What the semantic head's classes and the edges have to do with each other, as a loss."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import PREDICTED_EDGES, check_edge_regression, class_probs, edge_consistency, edge_regression_loss
from ..modeling.shared_names import EDGE_LOGITS, SEM_SEG_LOGITS
from ..structures import downsample_edges
from ..structures.edges import IGNORE
from .auxiliary import AuxiliaryTask
from .base import Features, TaskBatch, register_task

_KEY = "MODEL.MTL.EDGE_COUPLING."


@register_task
class EdgeCouplingBranch(AuxiliaryTask):
    """Edge regression of the semantic prediction on the edge labels; and, if asked for, agreement with the edge head.

    All is compared on the grid of the semantic logits: interpolation to pixels would spread each change over a cell's
    width. Edge labels and probabilities are brought there by max-pooling. The semantic labels have no part in it. Both
    losses move the semantic head; see :mod:`mtl_d2.losses.edge_regression` for the equations.

    Args:
        smoothness: lambda, of the quadratic term; at least 0.
        beta: how free an edge leaves its neighbours, at least 0.
        edges: what an edge of the prediction is, a key of :data:`mtl_d2.losses.PREDICTED_EDGES`.
        consistency_weight: of the difference from the edge head's probability; 0 for none, and then no edge head.
        detach_edges: whether that difference leaves the edge head alone.

    Raises:
        ValueError: a value is out of its range.
    """

    name = "edge_coupling"
    label_keys = ("edge",)

    def __init__(
        self,
        *,
        smoothness: float = 0.1,
        beta: float = 5.0,
        edges: str = "structures",
        consistency_weight: float = 0.0,
        detach_edges: bool = True,
    ) -> None:
        check_edge_regression(smoothness, beta, edges, where=_KEY)
        if not 0 <= consistency_weight < float("inf"):
            raise ValueError(
                f"{_KEY}CONSISTENCY_WEIGHT is {consistency_weight}, expected a finite number of at least 0"
            )
        self.smoothness = smoothness
        self.beta = beta
        self.edges = edges
        self.consistency_weight = consistency_weight
        self.detach_edges = detach_edges

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "EdgeCouplingBranch":
        options = cfg.MODEL.MTL.EDGE_COUPLING
        return cls(
            smoothness=options.SMOOTHNESS,
            beta=options.BETA,
            edges=options.EDGES,
            consistency_weight=options.CONSISTENCY_WEIGHT,
            detach_edges=options.DETACH_EDGES,
        )

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {}

    @property
    def loss_names(self) -> tuple[str, ...]:
        consistency = ("loss_edge_consistency",) if self.consistency_weight else ()
        return ("loss_edge_regression", *consistency)

    @property
    def reads(self) -> tuple[str, ...]:
        return (SEM_SEG_LOGITS, EDGE_LOGITS) if self.consistency_weight else (SEM_SEG_LOGITS,)

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        logits = features[SEM_SEG_LOGITS]
        stride = batch.images.tensor.shape[-1] // logits.shape[-1]
        targets = downsample_edges(batch.dense_labels("edge", IGNORE), stride)
        regression = edge_regression_loss(logits, targets, smoothness=self.smoothness, beta=self.beta, edges=self.edges)
        losses = {"loss_edge_regression": regression}
        if self.consistency_weight:
            difference = self._difference(logits, features[EDGE_LOGITS].float(), targets)
            losses["loss_edge_consistency"] = difference * self.consistency_weight
        return losses

    def _difference(self, logits: Tensor, edge_logits: Tensor, targets: Tensor) -> Tensor:
        edge_logits = edge_logits.detach() if self.detach_edges else edge_logits
        edge_probs = F.adaptive_max_pool2d(edge_logits.sigmoid(), logits.shape[-2:])[:, 0]
        return edge_consistency(PREDICTED_EDGES[self.edges](class_probs(logits, targets), targets), edge_probs, targets)
