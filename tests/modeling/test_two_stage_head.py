"""The two-stage semantic head: both stages supervised, with and without edges, its answer and its refusals."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2.modeling.sem_seg import SemSegCriterion, TwoStageSemSegHead
from mtl_d2.modeling.shared_names import EDGE_LOGITS
from mtl_d2.testing import random_batched_inputs, tiny_cfg

SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3)}
NAME = {"MODEL.SEM_SEG_HEAD.NAME": "TwoStageSemSegHead"}
KEY = "MODEL.MTL.SEM_SEG_HEAD.TWO_STAGE"


def make_head(**options) -> TwoStageSemSegHead:
    torch.manual_seed(0)
    defaults = {"num_classes": 3, "conv_dims": 32, "common_stride": 4, "detail_dims": 32, "ignore_value": 255}
    return TwoStageSemSegHead(SHAPES, **{**defaults, **options})


def make_features(edge_stride: int | None = None, n: int = 2, height: int = 32, width: int = 48) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = {
        name: torch.randn(n, 8, height // shape.stride, width // shape.stride, generator=generator)
        for name, shape in SHAPES.items()
    }
    if edge_stride:
        size = (height // edge_stride, width // edge_stride)
        features[EDGE_LOGITS] = torch.randn(n, 1, *size, generator=generator)
    return features


def make_targets(n: int = 2, height: int = 32, width: int = 48) -> Tensor:
    return torch.randint(0, 3, (n, height, width), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("edge_stride", [None, 1, 4])
def test_predicts_at_the_stride_asked_for_and_answers_at_full_resolution(stride: int, edge_stride: int | None) -> None:
    head, features = make_head(stride=stride, edge_stride=edge_stride).eval(), make_features(edge_stride)
    assert head.layers(features).shape == (2, 3, 32 // stride, 48 // stride)
    assert head(features)[0].shape == (2, 3, 32, 48)


def test_without_detail_it_answers_as_its_first_stage() -> None:
    head, features = make_head(stride=4).eval(), make_features()
    nn.init.zeros_(head.detail_predictor.weight)
    coarse = head.predictor(head.tower(features))
    expected = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(features)[0], expected)


def test_both_stages_are_supervised_by_the_criterion() -> None:
    criterion = SemSegCriterion(3, loss="dice", loss_weight=0.5)
    head, features, targets = make_head(criterion=criterion, coarse_weight=0.25), make_features(), make_targets()
    losses = head(features, targets)[1]
    coarse = head.predictor(head.tower(features))
    enlarged = nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)
    assert set(losses) == set(head.loss_names)
    torch.testing.assert_close(losses["loss_sem_seg_coarse"], 0.25 * criterion(enlarged, targets))
    torch.testing.assert_close(losses["loss_sem_seg"], criterion(head.eval()(features)[0], targets))


def test_every_parameter_learns_and_the_edges_do_too() -> None:
    head, features = make_head(edge_stride=1), make_features(1)
    features[EDGE_LOGITS].requires_grad_()
    sum(head(features, make_targets())[1].values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    assert features[EDGE_LOGITS].grad.any()


def test_the_detail_sees_the_edges_of_its_own_cell() -> None:
    head, features = make_head(edge_stride=1, norm="").eval(), make_features(1)
    with torch.no_grad():
        before = head.layers(features)
        features[EDGE_LOGITS][0, 0, 17, 21] += 5  # cell (4, 5); two 3x3 convolutions reach two cells further
        changed = (head.layers(features) - before).abs().sum(1) > 0
    rows, columns = changed[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2 * 2, 2 * 7 - 1, 2 * 3, 2 * 8 - 1)
    assert not changed[1].any()


def test_nothing_valid_is_zero_with_finite_gradients() -> None:
    head = make_head()
    losses = head(make_features(), torch.full((2, 32, 48), 255))[1]
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_what_was_made_for_others_is_not_made_again() -> None:
    head, features, targets = make_head(edge_stride=2), make_features(2), make_targets()
    expected = head(features, targets)[1]
    made = head.shared_features(features)
    head.tower = None  # would fail
    assert all(torch.equal(head({**features, **made}, targets)[1][name], loss) for name, loss in expected.items())


def build(**overrides) -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(("sem_seg", "edge"), **NAME, **overrides))


@pytest.mark.parametrize("edge_input", [False, True])
def test_in_the_network_the_semantic_loss_moves_the_edge_head_only_if_it_reads_it(edge_input: bool) -> None:
    model = build(**{f"{KEY}.EDGE_INPUT": edge_input})
    runs = []
    model.edge_head.predictor.register_forward_hook(lambda *args: runs.append(1))
    inputs = random_batched_inputs(2)
    with EventStorage():
        losses = model(inputs)
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_coarse", "loss_edge"} and len(runs) == 1
    losses["loss_sem_seg"].backward()
    gradients = [p.grad for p in model.edge_head.parameters()]
    assert all(bool(g is not None and g.any()) is edge_input for g in gradients)
    runs.clear()
    (answer, _) = model.eval().inference(inputs, tasks=("sem_seg",))
    assert set(answer) == {"sem_seg"} and len(runs) == edge_input


def test_a_tower_without_edge_input_may_be_read() -> None:
    model = build(**{"MODEL.MTL.EDGE_HEAD.NAME": "TowerEdgeHead"})
    with EventStorage():
        losses = model(random_batched_inputs(1))
    assert losses["loss_edge"] > 0 and losses["loss_sem_seg_coarse"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {f"{KEY}.EDGE_INPUT": True, "MODEL.MTL.EDGE_HEAD.NAME": "TowerEdgeHead"},
            "wait for each other: set EDGE_INPUT to False, or choose another edge head",
        ),
        ({f"{KEY}.STRIDE": 3}, r"TWO_STAGE\.STRIDE is 3: expected a divisor of MODEL\.SEM_SEG_HEAD\.COMMON_STRIDE"),
        ({f"{KEY}.COARSE_WEIGHT": -1.0}, r"TWO_STAGE\.COARSE_WEIGHT is -1.0"),
        ({f"{KEY}.EDGE_INPUT": True, "MODEL.MTL.TASKS": ["sem_seg"]}, "task 'sem_seg' reads 'edge_logits'"),
    ],
)
def test_impossible_configs_name_their_key(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**overrides)
