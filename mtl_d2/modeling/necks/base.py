"""The interface of necks, and the one that changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

NECKS_REGISTRY = Registry("NECKS")
NECKS_REGISTRY.__doc__ = "Necks ``(cfg, input_shape)`` for ``MODEL.MTL.NECK.NAME``."

Features = Mapping[str, Tensor]
ImageSizes = Sequence[tuple[int, int]]


class Neck(nn.Module):
    """Makes the features that the heads of a task read from those of the backbone: ``neck(features, task)``.

    It has two stages. :meth:`aggregate` is the same for all tasks, so that a network computes it once a step, whatever
    the number of tasks; :meth:`adapt` is run for each task that has a label in the step. Both are the identity unless a
    neck says otherwise.

    Args:
        input_shape: of the backbone's features.

    Attributes:
        by_task: ``{task: a module}``, what a neck has for one task alone. It counts as a part of that task's heads,
            the rest of a neck is the part "neck" of the network.
    """

    by_task: nn.ModuleDict

    def __init__(self, input_shape: Mapping[str, ShapeSpec]) -> None:
        super().__init__()
        self.input_shape = dict(input_shape)
        self.by_task = nn.ModuleDict()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {"input_shape": input_shape}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Of the features that every task gets."""
        return dict(self.input_shape)

    def aggregate(self, features: Features) -> Features:
        """What is the same for all tasks.

        Args:
            features: of the backbone, ``{level: (N, C, H / stride, W / stride)}``.
        """
        return features

    def adapt(self, features: Features, task: str, image_sizes: ImageSizes) -> Features:
        """The features of one task, from those that :meth:`aggregate` gave; see :meth:`forward`."""
        return features

    def forward(self, features: Features, task: str, image_sizes: ImageSizes) -> Features:
        """Both stages.

        Args:
            features: of the backbone, ``{level: (N, C, H / stride, W / stride)}``.
            task: one of the network's.
            image_sizes: height and width of the N images in pixels; what is outside of them is padding.
        """
        return self.adapt(self.aggregate(features), task, image_sizes)


def register_neck(name: str) -> Callable[[type[Neck]], type[Neck]]:
    """Class decorator: make a neck known under a name to ``MODEL.MTL.NECK.NAME``."""

    def register(cls: type[Neck]) -> type[Neck]:
        NECKS_REGISTRY._do_register(name, cls)
        return cls

    return register


@register_neck("identity")
class IdentityNeck(Neck):
    """The heads read the backbone's features as they are."""
