"""Semantic and edge heads on decoders: losses, auxiliary losses, resolutions, faults of the config."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from mtl_d2.losses import EDGE_LOSSES
from mtl_d2.modeling.decoders import PSPNetDecoder, UNetDecoder
from mtl_d2.modeling.edge import DecoderEdgeHead
from mtl_d2.modeling.sem_seg import DecoderSemSegHead, SemSegCriterion
from mtl_d2.structures import downsample_edges
from mtl_d2.testing import tiny_cfg

SHAPES = {f"s{2**i}": ShapeSpec(channels=8, stride=2**i) for i in range(5)}
SIZES = {"conv_dims": 8, "norm": "BN"}


def _features(height=32, width=48):
    torch.manual_seed(0)
    return {name: torch.randn(2, 8, height // s.stride, width // s.stride) for name, s in SHAPES.items()}


def _decoder(kind, levels, **options):
    torch.manual_seed(1)
    return kind({level: SHAPES[level] for level in levels}, **SIZES, **options)


def _sem_seg_head(kind=UNetDecoder, levels=("s2", "s4"), **options):
    return DecoderSemSegHead(decoder=_decoder(kind, levels, out_channels=3, **options), criterion=SemSegCriterion(3))


def _targets(height=32, width=48, classes=3):
    torch.manual_seed(2)
    targets = torch.randint(0, classes, (2, height, width))
    targets[:, :4] = 255
    return targets


def test_the_semantic_loss_is_the_criterion_at_the_labels_resolution():
    head = _sem_seg_head()
    logits = F.interpolate(head.layers(_features()), scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(logits, _targets(), ignore_index=255)
    answer, losses = head(_features(), _targets())
    assert answer is None and list(losses) == ["loss_sem_seg"] == list(head.loss_names)
    torch.testing.assert_close(losses["loss_sem_seg"], expected)


def test_logits_are_those_of_the_loss_at_the_inputs_resolution():
    head = _sem_seg_head().eval()
    logits, losses = head(_features())
    assert logits.shape == (2, 3, 32, 48) and logits.dtype == torch.float32 and losses == {}
    torch.testing.assert_close(head.losses(head.layers(_features()), _targets())["loss_sem_seg"],
                               F.cross_entropy(logits, _targets(), ignore_index=255))  # fmt: skip


@pytest.mark.parametrize("size", [(31, 45), (33, 49)])
def test_labels_that_the_stride_does_not_divide_are_met_exactly(size):
    loss = _sem_seg_head()(_features(), _targets(*size))[1]["loss_sem_seg"]
    assert loss.isfinite() and loss > 0


def test_an_auxiliary_loss_has_its_own_name_and_weight():
    head = _sem_seg_head(PSPNetDecoder, ("s8", "s16"), auxiliary_weight=0.25, dropout=0.0)
    losses = head(_features(), _targets())[1]
    assert tuple(losses) == head.loss_names == ("loss_sem_seg", "loss_sem_seg_auxiliary")
    scores = head.decoder.auxiliary(_features())["auxiliary"]
    expected = 0.25 * head.losses(scores, _targets())["loss_sem_seg"]
    torch.testing.assert_close(losses["loss_sem_seg_auxiliary"], expected)


def test_without_a_valid_pixel_all_losses_are_zero_with_finite_gradients():
    head = _sem_seg_head(PSPNetDecoder, ("s8", "s16"))
    losses = head(_features(), torch.full((2, 32, 48), 255))[1]
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def _edge_head(stride=1, kind=UNetDecoder, levels=("s4", "s8"), **options):
    r = (16 if kind is PSPNetDecoder else 4) // stride
    decoder = _decoder(kind, levels, out_channels=r * r, **options)
    return DecoderEdgeHead(decoder=decoder, stride=stride, loss_weight=0.5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_edges_are_trained_at_their_stride_and_answered_at_the_inputs_resolution(stride):
    head, targets = _edge_head(stride), _targets(classes=2)
    loss = head(_features(), torch.zeros(2, 3, 32, 48), targets)[1]["loss_edge"]
    logits = F.pixel_shuffle(head.decoder(_features()), 4 // stride)
    expected = 0.5 * EDGE_LOSSES["hed"](logits.squeeze(1), downsample_edges(targets, stride))
    torch.testing.assert_close(loss, expected)
    answer, losses = head.eval()(_features(), torch.zeros(2, 3, 32, 48))
    assert answer.shape == (2, 1, 32, 48) and losses == {}


@pytest.mark.parametrize("size", [(31, 47), (35, 50)])
def test_edges_of_images_that_the_stride_does_not_divide_are_met_exactly(size):
    head, images = _edge_head(), torch.zeros(2, 3, *size)
    assert head(_features(), images, _targets(*size, classes=2))[1]["loss_edge"].isfinite()
    assert head.eval()(_features(), images)[0].shape == (2, 1, *size)


def test_an_auxiliary_edge_loss_has_its_own_name_and_weight():
    head = _edge_head(2, PSPNetDecoder, ("s8", "s16"), auxiliary_weight=0.25, dropout=0.0)
    images, targets = torch.zeros(2, 3, 32, 48), _targets(classes=2)
    losses = head(_features(), images, targets)[1]
    assert tuple(losses) == head.loss_names == ("loss_edge", "loss_edge_auxiliary")
    auxiliary = F.pixel_shuffle(head.decoder.auxiliary(_features())["auxiliary"], 8).squeeze(1)
    expected = 0.125 * EDGE_LOSSES["hed"](auxiliary, downsample_edges(targets, 2))
    torch.testing.assert_close(losses["loss_edge_auxiliary"], expected)


def test_the_stride_of_edges_divides_the_decoders():
    with pytest.raises(ValueError, match="STRIDE is 3: expected a divisor of 4"):
        DecoderEdgeHead(decoder=_decoder(UNetDecoder, ("s4", "s8"), out_channels=1), stride=3)


def _cfg(**keys):
    options = {f"MODEL.MTL.{key.replace('__', '.')}": value for key, value in keys.items()}
    return tiny_cfg(
        **{"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["s4", "s8", "s16"], "MODEL.SEM_SEG_HEAD.NORM": "BN", **options}
    )


def test_the_config_gives_the_decoder_its_options():
    head = DecoderSemSegHead(
        _cfg(SEM_SEG_HEAD__DECODER="RSPPDecoder", DECODER__RSPP__TIMES=4, DECODER__RSPP__BINS=[1, 5]), SHAPES
    )
    assert head.decoder.times == 4 and len(head.decoder.pooling.grids) == 2
    head = DecoderSemSegHead(_cfg(SEM_SEG_HEAD__DECODER="PSPNetDecoder", DECODER__PSPNET__AUXILIARY_WEIGHT=0.1), SHAPES)
    assert head.decoder.auxiliary_weights == {"auxiliary": 0.1}
    head = DecoderSemSegHead(
        _cfg(SEM_SEG_HEAD__DECODER="FCNDecoder", DECODER__FCN__FC_DIM=10, DECODER__FCN__FC_KERNEL=5), SHAPES
    )
    assert head.decoder.fc[0].weight.shape == (10, 8, 5, 5)


def test_the_config_gives_edges_as_many_scores_as_a_cell_has_parts():
    cfg = _cfg(EDGE_HEAD__DECODER="DeepLabV3Decoder", EDGE_HEAD__IN_FEATURES=["s8"], EDGE_HEAD__STRIDE=2)
    cfg.MODEL.MTL.EDGE_HEAD.NORM = "BN"
    head = DecoderEdgeHead(cfg, SHAPES)
    assert head.decoder.layers[-1].out_channels == 16
    cfg.MODEL.MTL.EDGE_HEAD.STRIDE = 16
    with pytest.raises(ValueError, match="STRIDE is 16: expected a divisor of 8"):
        DecoderEdgeHead(cfg, SHAPES)


@pytest.mark.parametrize(
    ("head", "keys", "message"),
    [
        (
            DecoderSemSegHead,
            {"SEM_SEG_HEAD__DECODER": "UNet"},
            "SEM_SEG_HEAD.DECODER is 'UNet': expected one of .*UNetD",
        ),
        (DecoderEdgeHead, {"EDGE_HEAD__DECODER": "UNet"}, "EDGE_HEAD.DECODER is 'UNet': expected one of"),
        (
            DecoderEdgeHead,
            {"EDGE_HEAD__IN_FEATURES": ["s8", "s64"]},
            r"EDGE_HEAD.IN_FEATURES is \['s8', 's64'\]: the b",
        ),
        (DecoderEdgeHead, {"EDGE_HEAD__IN_FEATURES": []}, r"the backbone gives s1 \(stride 1\), s2 \(stride 2\)"),
        (DecoderSemSegHead, {"SEM_SEG_HEAD__DECODER": "SegNetDecoder"}, "indices of the poolings that lead to it"),
    ],
)
def test_what_a_config_gets_wrong_is_told(head, keys, message):
    with pytest.raises(ValueError, match=message):
        head(_cfg(**{"EDGE_HEAD__IN_FEATURES": ["s4"], **keys}), SHAPES)
