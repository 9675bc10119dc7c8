"""Task-wise squeeze-excitation: each task weighs the shared channels for itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .base import Features, ImageSizes, Neck, register_neck
from .levels import mean_over_images

_KEY = "MODEL.MTL.NECK.SQUEEZE_EXCITATION"


@register_neck("squeeze_excitation")
class SqueezeExcitationNeck(Neck):
    """A gate in (0, 2) for each channel, level, image and task.

    Squeeze-excitation (Hu et al. 2018, Squeeze-and-Excitation Networks, equations 2 to 4) with weights of each task's
    own (Maninis et al. 2019, Attentive Single-Tasking of Multiple Tasks, section 3.2): the means of the channels over
    the image, a bottleneck of C / ``reduction`` units, a sigmoid. There the blocks stand in the encoder and decoder;
    here, our reading, at the levels that the tasks share. The gate is twice the sigmoid, and the last weights begin
    as zero: a network begins as the one without a neck.

    Parameters of a level with C channels, for each task: 2 C C / r + C / r + C, r = ``reduction``.

    Args:
        input_shape: of the backbone's features.
        tasks: that have gates.
        reduction: r, from 1 to the fewest channels of a level.

    Raises:
        ValueError: ``reduction`` is out of its range.
    """

    def __init__(self, input_shape: Mapping[str, ShapeSpec], *, tasks: Sequence[str], reduction: int = 16) -> None:
        super().__init__(input_shape)
        fewest = min(shape.channels for shape in input_shape.values())
        if not 1 <= reduction <= fewest:
            raise ValueError(f"{_KEY}.REDUCTION is {reduction}: expected 1 to {fewest}, the channels of a level")
        for task in tasks:
            gates = {name: _Gate(shape.channels, reduction) for name, shape in input_shape.items()}
            self.by_task[task] = nn.ModuleDict(gates)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {
            "input_shape": input_shape,
            "tasks": cfg.MODEL.MTL.TASKS,
            "reduction": cfg.MODEL.MTL.NECK.SQUEEZE_EXCITATION.REDUCTION,
        }

    def adapt(self, features: Features, task: str, image_sizes: ImageSizes) -> Features:
        gates: Any = self.by_task[task]
        return {
            name: gates[name](feature, mean_over_images(feature, self.input_shape[name].stride, image_sizes))
            for name, feature in features.items()
        }


class _Gate(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def forward(self, feature: Tensor, mean: Tensor) -> Tensor:
        """(N, C, h, w), weighed by gates that are made from ``mean``, (N, C)."""
        gate = 2 * self.excite(self.squeeze(mean).relu()).sigmoid()
        return feature * gate[:, :, None, None].to(feature.dtype)
