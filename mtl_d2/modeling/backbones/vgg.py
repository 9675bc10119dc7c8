"""The plain backbone of 3x3 convolutions and max pooling."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import Norm, fitting
from ..pooling import max_pool_with_positions


class VGG(Backbone):
    """VGG's convolutions (Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
    ICLR 2015), with a norm after each as in torchvision's ``vgg16_bn``; without the fully connected layers.

    Stage i (from 1) has ``depths[i - 1]`` convolutions of ``widths[i - 1]`` channels at stride 2 ** (i - 1), and a
    pooling of 2 x 2 follows. Beside a norm convolutions have no bias (torchvision's have one, which the norm undoes).
    What no output needs is not built.

    Outputs, for n stages:
        ``s1``, ``s2``, ``s4``, ...: of stage 1, 2, 3, ... before its pooling, named by the stride.
        ``s<2 ** n>``: of the last pooling; with the usual five stages ``s32``.
        ``pool<i>_indices``: uint8 (N, widths[i - 1], H / 2 ** i, W / 2 ** i), where the maxima of the pooling after
            stage i stood, see :func:`..pooling.max_pool_with_positions`.

    Args:
        in_channels: of the image.
        depths, widths: one number for each stage; by default VGG-16's.
        norm: of Detectron2's ``get_norm``: "BN", "FrozenBN", "GN", ...; "" for none.
        out_features: outputs to give.
        freeze_at: so many stages, from the first, are not trained, and their batch norms are fixed.

    Raises:
        ValueError: ``depths`` and ``widths`` differ in length, or there is no such output.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        norm: Norm = "BN",
        out_features: Sequence[str] = ("s32",),
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        if not depths or len(depths) != len(widths):
            raise ValueError(
                f"MODEL.MTL.VGG has {len(depths)} DEPTHS and {len(widths)} WIDTHS: expected one of each for every stage"
            )
        shapes, stage_of = _outputs(widths)
        missing = [name for name in out_features if name not in shapes]
        if missing or not out_features:
            raise ValueError(
                f"MODEL.MTL.VGG.OUT_FEATURES is {list(out_features)}: {len(widths)} stages give {list(shapes)}"
            )
        self._shapes = {name: shapes[name] for name in out_features}
        self.stages = [f"stage{i + 1}" for i in range(max(stage_of[name] for name in out_features))]
        channels = in_channels
        for i, name in enumerate(self.stages):
            stage = _Stage(channels, widths[i], depths[i], norm)
            self.add_module(name, stage.freeze() if i < freeze_at else stage)
            channels = widths[i]

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, so that the size of each map is that of the image over its stride."""
        return max(shape.stride for shape in self._shapes.values())

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, C, H, W) to ``{output: map}``; a size that is odd before a pooling loses a row or column."""
        maps = {}
        for i, name in enumerate(self.stages):
            x = maps[f"s{2**i}"] = self.get_submodule(name)(x)
            if f"pool{i + 1}_indices" in self._shapes:
                x, maps[f"pool{i + 1}_indices"] = max_pool_with_positions(x)
            elif i + 1 < len(self.stages) or f"s{2 ** (i + 1)}" in self._shapes:
                x = F.max_pool2d(x, 2)
        maps[f"s{2 ** len(self.stages)}"] = x
        return {name: maps[name] for name in self._shapes}


class _Stage(CNNBlockBase):
    """Convolutions of one width at one stride."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, stride=1)
        convs = [
            Conv2d(
                in_channels if i == 0 else out_channels,
                out_channels,
                kernel_size=3,
                padding=1,
                bias=not norm,
                norm=get_norm(fitting(norm), out_channels),
                activation=F.relu,
            )
            for i in range(depth)
        ]
        for conv in convs:
            weight_init.c2_msra_fill(conv)
        self.convs = nn.Sequential(*convs)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


def _outputs(widths: Sequence[int]) -> tuple[dict[str, ShapeSpec], dict[str, int]]:
    """The shape of every output there is, and the number of stages that it needs."""
    count = len(widths)
    shapes = {f"s{2**i}": ShapeSpec(channels=width, stride=2**i) for i, width in enumerate((*widths, widths[-1]))}
    pools = {f"pool{i + 1}_indices": ShapeSpec(channels=width, stride=2 ** (i + 1)) for i, width in enumerate(widths)}
    needs = {name: min(i + 1, count) for i, name in enumerate(shapes)} | {name: i + 1 for i, name in enumerate(pools)}
    return shapes | pools, needs


@BACKBONE_REGISTRY.register()
def build_vgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG:
    """Build the :class:`VGG` of MODEL.MTL.VGG, its first MODEL.BACKBONE.FREEZE_AT stages frozen.

    Args:
        input_shape: ``channels`` of the image.
    """
    vgg = cfg.MODEL.MTL.VGG
    return VGG(
        input_shape.channels,
        depths=vgg.DEPTHS,
        widths=vgg.WIDTHS,
        norm=vgg.NORM,
        out_features=vgg.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
