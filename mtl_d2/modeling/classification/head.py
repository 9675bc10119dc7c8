"""Labels of a whole image from pooled features."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...losses import asymmetric_loss, check_focal, focal_prior_bias, multi_label_bce_loss, multi_label_focal_loss
from ..class_weights import ClassWeights, Weights
from .build import CLASSIFICATION_HEADS_REGISTRY

POOLINGS = {"avg": ("avg",), "max": ("max",), "avg_max": ("avg", "max")}
LOSSES = ("bce", "focal", "asymmetric")
KEY = "MODEL.MTL.CLASSIFICATION_HEAD"

Loss = Callable[..., Tensor]
Sizes = Sequence[tuple[int, int]]


@CLASSIFICATION_HEADS_REGISTRY.register()
class ClassificationHead(nn.Module):
    """K independent labels: each level pooled over the image to a vector, then one linear layer, or two.

    What a batch is padded with is not pooled.

    Args:
        input_shape: of the features to use.
        num_classes: K.
        pooling: "avg", "max", or "avg_max" for both side by side.
        hidden_dim: channels of a layer with ReLU before the last; 0 for none.
        dropout: share of the channels before the last layer that are dropped in training, in [0, 1).
        prior_prob: probability of every class at the start, in (0, 1), see :func:`mtl_d2.losses.focal_prior_bias`.
        loss: ``(logits (N, K), targets (N, K), weight=(K,) or None) -> scalar``.
        class_weights: a number for each class; see :class:`mtl_d2.modeling.class_weights.ClassWeights`.
        loss_weight: within the task.

    Raises:
        ValueError: an argument is out of its range.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        pooling: str = "avg",
        hidden_dim: int = 0,
        dropout: float = 0.0,
        prior_prob: float = 0.1,
        loss: Loss = multi_label_bce_loss,
        class_weights: Weights = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check(pooling, dropout, prior_prob)
        self.strides = {name: shape.stride for name, shape in input_shape.items()}
        self.poolings = POOLINGS[pooling]
        self.loss = loss
        self.loss_weight = loss_weight
        channels = len(self.poolings) * sum(shape.channels for shape in input_shape.values())
        self.hidden: nn.Module = nn.Identity()
        if hidden_dim:
            self.hidden = nn.Sequential(nn.Linear(channels, hidden_dim), nn.ReLU())
            channels = hidden_dim
        self.dropout = nn.Dropout(dropout)
        self.predictor = nn.Linear(channels, num_classes)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.constant_(self.predictor.bias, focal_prior_bias(prior_prob))
        self.class_weights = ClassWeights(
            class_weights, num_classes, key=f"{KEY}.CLASS_WEIGHTS", classes=f"each of {KEY}.NUM_CLASSES"
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.MTL.CLASSIFICATION_HEAD
        missing = [name for name in head.IN_FEATURES if name not in input_shape]
        if missing or not head.IN_FEATURES:
            raise ValueError(
                f"{KEY}.IN_FEATURES asks for {missing or 'no level'}: the backbone gives {sorted(input_shape)}"
            )
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "pooling": head.POOLING,
            "hidden_dim": head.HIDDEN_DIM,
            "dropout": head.DROPOUT,
            "prior_prob": head.PRIOR_PROB,
            "loss": _configured_loss(head),
            "class_weights": head.CLASS_WEIGHTS,
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(
        self, features: Mapping[str, Tensor], image_sizes: Sizes, targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``.

        Args:
            features: ``{level: (N, C, H / s, W / s)}``.
            image_sizes: height and width of each of the N images, in pixels, without padding.
            targets: (N, K), 1 for a class in the image, 0 for one that is not, below 0 for unknown; in training.

        Returns:
            logits (N, K) in float32.
        """
        logits = self.layers(features, image_sizes).float()
        if self.training:
            assert targets is not None, "training needs targets"
            return None, self.losses(logits, targets)
        return logits, {}

    def layers(self, features: Mapping[str, Tensor], image_sizes: Sizes) -> Tensor:
        """Logits (N, K)."""
        pooled = [self._pool(features[name], stride, image_sizes) for name, stride in self.strides.items()]
        return self.predictor(self.dropout(self.hidden(torch.cat(pooled, dim=1))))

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss of the known labels."""
        loss = self.loss(logits, targets, weight=self.class_weights())
        return {"loss_classification": loss * self.loss_weight}

    def _pool(self, feature: Tensor, stride: int, image_sizes: Sizes) -> Tensor:
        """(N, C), or (N, 2 C), over the cells that an image reaches into."""
        vectors = []
        for cells, (height, width) in zip(feature, image_sizes, strict=True):
            inside = cells[:, : -(-height // stride), : -(-width // stride)].flatten(1)
            vectors.append(torch.cat([inside.mean(1) if how == "avg" else inside.amax(1) for how in self.poolings]))
        return torch.stack(vectors)


def _check(pooling: str, dropout: float, prior_prob: float) -> None:
    if pooling not in POOLINGS:
        raise ValueError(f"{KEY}.POOLING is {pooling!r}: expected one of {list(POOLINGS)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"{KEY}.DROPOUT is {dropout}: expected a share in [0, 1)")
    if not 0 < prior_prob < 1:
        raise ValueError(f"{KEY}.PRIOR_PROB is {prior_prob}: expected a probability in (0, 1)")


def _configured_loss(head: CfgNode) -> Loss:
    """The loss that the node CLASSIFICATION_HEAD names, with its options."""
    if head.LOSS not in LOSSES:
        raise ValueError(f"{KEY}.LOSS is {head.LOSS!r}: expected one of {list(LOSSES)}")
    if head.LOSS == "focal":
        check_focal(KEY, gamma=head.FOCAL_GAMMA, alpha=head.FOCAL_ALPHA)
        return partial(multi_label_focal_loss, alpha=head.FOCAL_ALPHA, gamma=head.FOCAL_GAMMA)
    if head.LOSS == "asymmetric":
        options = head.ASYMMETRIC
        for key in ("GAMMA_POS", "GAMMA_NEG"):
            if not 0 <= options[key] < math.inf:
                raise ValueError(f"{KEY}.ASYMMETRIC.{key} is {options[key]}, expected a finite number of 0 or more")
        if not 0 <= options.SHIFT < 1:
            raise ValueError(f"{KEY}.ASYMMETRIC.SHIFT is {options.SHIFT}, expected a probability in [0, 1)")
        return partial(asymmetric_loss, gamma_pos=options.GAMMA_POS, gamma_neg=options.GAMMA_NEG, shift=options.SHIFT)
    return multi_label_bce_loss
