"""Backbones beside Detectron2's own."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone import build_resnet_backbone


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_exact_levels_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build an FPN on a ResNet with the levels of MODEL.FPN.IN_FEATURES and no other.

    Detectron2's ``build_resnet_fpn_backbone`` adds p6, and with it needs res5: for objects of a few dozen pixels
    the two cost more than they give. The ResNet ends with the last of MODEL.RESNETS.OUT_FEATURES.

    Source: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.

    Args:
        input_shape: ``channels`` of the image.

    Returns:
        maps a float tensor (N, C, H, W) to {"p2": (N, MODEL.FPN.OUT_CHANNELS, H / 4, W / 4), "p3": ...}.
    """
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
