"""Feature pyramids on a backbone, with its own maps beside the levels where a decoder reads them."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor

from .vgg import build_vgg_backbone


class FPNWithMaps(FPN):
    """Detectron2's FPN (Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017) that also gives maps of
    the backbone below it, so that a decoder can be trained beside the heads of the levels.

    The names in a state dict are those of Detectron2's FPN. The maps come before the levels in the output. A network
    whose heads read maps alone wants the backbone without an FPN: in several processes a parameter that no loss reaches
    is an error.

    Args:
        bottom_up: the backbone below.
        extra_features: names of its outputs to give; () for an FPN as it is.
        **options: of Detectron2's ``FPN``.

    Raises:
        ValueError: the backbone below does not give one of them.
    """

    def __init__(self, bottom_up: Backbone, *, extra_features: Sequence[str] = (), **options: Any) -> None:
        super().__init__(bottom_up=bottom_up, **options)
        below = bottom_up.output_shape()
        missing = [name for name in extra_features if name not in below]
        if missing:
            raise ValueError(
                f"MODEL.MTL.BACKBONE.EXTRA_FEATURES asks for {missing}: the backbone below the FPN gives "
                f"{list(below)}; name them in its OUT_FEATURES too"
            )
        self.extra_features = {name: below[name] for name in extra_features}

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, of levels and maps."""
        return max(super().size_divisibility, *(shape.stride for shape in self.extra_features.values()), 0)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {**self.extra_features, **super().output_shape()}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps of the backbone below, then the levels, from one pass.

        Args:
            x: (N, C, H, W); H and W are multiples of ``size_divisibility``.
        """
        below: dict[str, Tensor] = {}
        # Detectron2's forward keeps the maps below to itself.
        watch = self.bottom_up.register_forward_hook(lambda module, inputs, maps: below.update(maps))
        try:
            levels = super().forward(x)
        finally:
            watch.remove()
        return {**{name: below[name] for name in self.extra_features}, **levels}


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_exact_levels_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPNWithMaps:
    """Build an FPN on a ResNet with the levels of MODEL.FPN.IN_FEATURES and no other.

    Detectron2's ``build_resnet_fpn_backbone`` adds p6, and with it needs res5: for objects of a few dozen pixels
    the two cost more than they give. The ResNet ends with the last of MODEL.RESNETS.OUT_FEATURES.

    Args:
        input_shape: ``channels`` of the image.

    Returns:
        maps a float tensor (N, C, H, W) to {"p2": (N, MODEL.FPN.OUT_CHANNELS, H / 4, W / 4), "p3": ...}, and to the
        ResNet's maps of MODEL.MTL.BACKBONE.EXTRA_FEATURES, such as "res2".
    """
    return _fpn(cfg, build_resnet_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_with_maps_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPNWithMaps:
    """Build Detectron2's ``build_resnet_fpn_backbone`` with the ResNet's maps of MODEL.MTL.BACKBONE.EXTRA_FEATURES."""
    return _fpn(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_vgg_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPNWithMaps:
    """Build an FPN on a :class:`~.vgg.VGG`, of the levels of MODEL.FPN.IN_FEATURES, such as [s4, s8, s16, s32].

    Where they reach stride 32 (p5), there is a p6 as on Detectron2's ResNet FPN. The VGG's maps of
    MODEL.MTL.BACKBONE.EXTRA_FEATURES are given too.
    """
    bottom_up = build_vgg_backbone(cfg, input_shape)
    return _fpn(cfg, bottom_up, LastLevelMaxPool() if "s32" in cfg.MODEL.FPN.IN_FEATURES else None)


def _fpn(cfg: CfgNode, bottom_up: Backbone, top_block: LastLevelMaxPool | None = None) -> FPNWithMaps:
    return FPNWithMaps(
        bottom_up,
        extra_features=cfg.MODEL.MTL.BACKBONE.EXTRA_FEATURES,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
