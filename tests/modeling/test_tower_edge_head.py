"""The edge head on the semantic tower: its answer, its price, and what its loss moves."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from fvcore.nn import FlopCountAnalysis
from torch import nn

from mtl_d2.losses import EDGE_LOSSES
from mtl_d2.modeling.edge import FPNEdgeHead, TowerEdgeHead
from mtl_d2.modeling.shared_names import SEM_SEG_TOWER
from mtl_d2.testing import tiny_cfg

TOWER = ShapeSpec(channels=8, stride=4)


def make_head(**options) -> TowerEdgeHead:
    torch.manual_seed(0)
    return TowerEdgeHead(TOWER, conv_dims=32, **options)


def tower_map(n: int = 2, height: int = 64, width: int = 96, channels: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {SEM_SEG_TOWER: torch.randn(n, channels, height // 4, width // 4, generator=generator).requires_grad_()}


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_predicts_at_the_stride_asked_for_and_answers_at_full_resolution(stride: int) -> None:
    head, features, images = make_head(stride=stride), tower_map(), torch.zeros(2, 3, 64, 96)
    assert head.layers(features, images).shape == (2, 1, 64 // stride, 96 // stride)
    logits, losses = head.eval()(features, images)
    assert logits.shape == (2, 1, 64, 96) and losses == {}


@pytest.mark.parametrize("detach", [False, True])
def test_the_loss_moves_the_tower_unless_it_is_detached(detach: bool) -> None:
    head, features = make_head(detach=detach, loss=EDGE_LOSSES["fixed"], loss_weight=0.5), tower_map()
    targets = torch.randint(0, 2, (2, 64, 96), generator=torch.Generator().manual_seed(0))
    loss = head(features, torch.zeros(2, 3, 64, 96), targets)[1]["loss_edge"]
    expected = 0.5 * EDGE_LOSSES["fixed"](head.layers(features, None)[:, 0], targets)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad.any() for p in head.parameters())
    assert (features[SEM_SEG_TOWER].grad is None) is detach


def test_it_costs_a_small_part_of_the_head_on_the_levels() -> None:
    """At the sizes of the base configs: 256 channels of the levels, 128 of the tower, an image of 512x512."""
    levels = {f"p{i}": ShapeSpec(channels=256, stride=2**i) for i in (2, 3, 4, 5)}
    features = {name: torch.zeros(1, 256, 512 // shape.stride, 512 // shape.stride) for name, shape in levels.items()}
    on_levels, on_tower = FPNEdgeHead(levels), TowerEdgeHead(ShapeSpec(channels=128, stride=4))
    assert _parameters(on_tower) == 128 * 64 * 9 + 2 * 64 + 64 * 16 + 16 == 74_896
    assert _parameters(on_tower) < 0.09 * _parameters(on_levels)
    giga = _giga_flops(on_tower, tower_map(1, 512, 512, 128))
    assert giga == pytest.approx(1.24, abs=0.03)  # 128 * 128 cells of 128 * 64 * 9 + 64 * 16 products, and the norm
    assert giga < 0.25 * _giga_flops(on_levels, features)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _giga_flops(head: nn.Module, features: dict[str, torch.Tensor]) -> float:
    """Multiplications with additions, in 10^9."""
    features = {name: feature.detach() for name, feature in features.items()}

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head.layers(features, images)

    with torch.no_grad():
        counted = FlopCountAnalysis(Logits().eval(), torch.zeros(1, 3, 512, 512))
        return counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total() / 1e9


def cfg_of(**overrides) -> CfgNode:
    return tiny_cfg(**{"MODEL.MTL.EDGE_HEAD.NAME": "TowerEdgeHead", **overrides})


def test_reads_its_keys() -> None:
    head = TowerEdgeHead(cfg_of(**{"MODEL.MTL.EDGE_HEAD.TOWER.DETACH": True, "MODEL.MTL.EDGE_HEAD.STRIDE": 2}), {})
    assert head.detach and head.stride == 2 and head.conv.in_channels == 32 and head.conv.out_channels == 32


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead"}, r"MODEL\.SEM_SEG_HEAD\.NAME 'SemSegFPNHead' gives none"),
        ({"MODEL.MTL.EDGE_HEAD.LOSS": "l2"}, r"MODEL\.MTL\.EDGE_HEAD\.LOSS is 'l2'"),
        ({"MODEL.MTL.EDGE_HEAD.STRIDE": 3}, r"MODEL\.MTL\.EDGE_HEAD\.STRIDE is 3: expected a divisor of 4"),
    ],
)
def test_impossible_configs_name_their_key(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TowerEdgeHead(cfg_of(**overrides), {})
