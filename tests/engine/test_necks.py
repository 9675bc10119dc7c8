"""Necks in the engine: ranks, parts of the optimizer and the schedule, weights of other runs."""

from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils import comm

from mtl_d2.engine.initial_weights import WeightsError, load_parts
from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.optimizer import build_optimizer
from mtl_d2.engine.parts import find_parts, parameters_of
from mtl_d2.engine.staged_run import _start_from
from mtl_d2.engine.task_schedule import TaskSchedule
from mtl_d2.engine.task_schedule_hook import TaskScheduleHook
from mtl_d2.engine.trainer import MultiTaskTrainer
from mtl_d2.meta_arch import MultiTaskFPN
from mtl_d2.modeling.necks import HypernetworkNeck
from mtl_d2.testing import ALL_TASKS, tiny_cfg

from .test_every_balancer import make_balancer, shards
from .toy import multitask_network

STEPS, SEED = 3, 5
SHAPES = {"p2": ShapeSpec(channels=4, stride=1), "p3": ShapeSpec(channels=4, stride=2)}
METHODS = ("fixed", "gradnorm")  # one of losses, one of gradients


def make_network(method: str = "fixed", *, seed: int = 0, tasks=ALL_TASKS, **options) -> MultiTaskFPN:
    torch.manual_seed(seed)
    neck = HypernetworkNeck(SHAPES, tasks=tasks, embedding_dim=4, hidden_dim=8, **options)
    network = multitask_network(make_balancer(method), neck=neck)
    with torch.no_grad():  # of a size that shows in a few steps
        neck.generator[-1].weight.mul_(20)
    return network


def make_trainer(model: MultiTaskFPN, *ranks: int, lr: float = 0.05, **options) -> MultiTaskTrainer:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    return MultiTaskTrainer(create_ddp(model), shards(*(ranks or (0, 1))), optimizer, seed=SEED, **options)


def trained(model: MultiTaskFPN, *ranks: int, **options) -> dict[str, torch.Tensor]:
    make_trainer(model, *ranks, **options).train(0, STEPS)
    return {key: value.clone() for key, value in model.state_dict().items()}


def _train_all(folder: str) -> None:
    found = {method: trained(make_network(method), comm.get_rank()) for method in METHODS}
    torch.save(found, f"{folder}/{comm.get_rank()}.pth")


def test_two_processes_equal_one_with_their_shards_as_parts(tmp_path: Path) -> None:
    """In step 1 one of them has no edges, in step 2 none has: the embedding waits as the head does."""
    launch(_train_all, 2, args=(str(tmp_path),), device="cpu")
    found = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for method in METHODS:
        before = make_network(method).state_dict()
        expected = trained(make_network(method), accumulate_steps=2)
        moved = [key for key in before if (expected[key] - before[key]).abs().max() > 1e-4]
        assert {"neck.generator.0.weight", "neck.convs.0.weight", "neck.by_task.edge.weight"} <= set(moved)
        for key, value in expected.items():
            for rank in found:
                torch.testing.assert_close(rank[method][key], value, rtol=1e-5, atol=1e-5, msg=f"{method}: {key}")


def test_what_all_tasks_share_is_a_part_and_what_is_a_tasks_own_is_the_tasks() -> None:
    model = make_network()
    parts = {part: set(parameters_of(modules)) for part, modules in find_parts(model).items()}
    neck = model.neck
    assert parts["neck"] == {*neck.generator.parameters(), *neck.convs.parameters()}
    assert parts["edge"] == {*model.edge_head.parameters(), neck.by_task["edge"].weight}
    assert sum(map(len, parts.values())) == len(list(model.parameters()))
    assert "neck" not in find_parts(multitask_network(make_balancer("fixed")))


def test_the_parts_of_separate_networks() -> None:
    cfg = tiny_cfg(("sem_seg", "edge"), **{"MODEL.MTL.NECK.NAME": "hypernetwork"})
    cfg.MODEL.META_ARCHITECTURE = "SeparateTaskNetworks"
    model = build_model(cfg)
    parts = {part: set(parameters_of(modules)) for part, modules in find_parts(model).items()}
    assert set.union(*parts.values()) == set(model.parameters())
    assert model.network_of("edge").neck.by_task["edge"].weight in parts["edge"]


def test_a_neck_has_a_rate_of_its_own_and_its_embeddings_that_of_their_task() -> None:
    node = "SOLVER.MTL.PARTS"
    factors = {f"{node}.neck.LR_FACTOR": 3.0, f"{node}.edge.LR_FACTOR": 5.0}
    cfg = tiny_cfg(("sem_seg", "edge"), **{"MODEL.MTL.NECK.NAME": "hypernetwork", "SOLVER.BASE_LR": 0.01, **factors})
    model = build_model(cfg)
    groups = build_optimizer(cfg, model).param_groups
    rates = {p: group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    found = [rates[model.neck.get_parameter(key)] for key in ("generator.0.weight", "by_task.edge.weight")]
    assert found == pytest.approx([0.03, 0.05])
    assert rates[model.neck.by_task["sem_seg"].weight] == pytest.approx(0.01)


def schedule(*frozen: str, trunk=("backbone", "neck"), steps: int = STEPS) -> TaskSchedule:
    freeze = [{"PART": part, "FROM": 0, "TO": -1} for part in frozen]
    return TaskSchedule(tasks=ALL_TASKS, max_iter=steps, freeze=freeze, trunk=trunk)


@pytest.mark.parametrize("frozen", [("neck",), ("backbone", *ALL_TASKS)])
def test_a_frozen_neck_stays_and_one_is_trained_alone(frozen: tuple[str, ...]) -> None:
    model = make_network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = make_trainer(model)
    trainer.register_hooks([TaskScheduleHook(schedule(*frozen), model)])
    trainer.train(0, STEPS)
    common = ("neck.generator.", "neck.convs.")
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == (key.startswith(common) == (frozen == ("neck",))), key


def test_a_schedule_that_trains_nothing_names_the_neck() -> None:
    with pytest.raises(ValueError, match="FREEZE holds that and backbone and neck"):
        schedule("backbone", "neck", *ALL_TASKS)
    with pytest.raises(ValueError, match="FREEZE names the part 'neck'; this network has"):
        schedule("neck", trunk=("backbone",))


def test_the_schedule_of_a_config_knows_whether_there_is_a_neck() -> None:
    options = {"SOLVER.MTL.PARTS.neck.START": 1, "SOLVER.MAX_ITER": 3}
    found = TaskSchedule.from_config(tiny_cfg(**{"MODEL.MTL.NECK.NAME": "hypercolumn", **options}))
    assert [sorted(found.frozen(step)) for step in range(3)] == [["neck"], [], []]
    assert TaskSchedule.from_config(tiny_cfg(**options)).is_joint


@pytest.mark.parametrize("form", ["channel", "low_rank"])
def test_a_frozen_generator_is_bit_equal_after_steps_and_embeddings_learn(form: str) -> None:
    model = make_network(freeze=True, form=form)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    after = trained(model)
    for key in (key for key in before if key.startswith("neck.")):
        assert torch.equal(after[key], before[key]) == ("by_task" not in key), key


def save(path: Path, model: torch.nn.Module) -> str:
    torch.save({"model": model.state_dict()}, path)
    return str(path)


def test_a_pretrained_hypernetwork_starts_a_run_with_a_lower_loss_than_a_fresh_one(tmp_path: Path) -> None:
    """Trained alone, under a trunk and heads that stand still; then saved, and loaded beside a fresh one."""
    steps = 40
    model = make_network()
    trainer = make_trainer(model, lr=0.003)
    trainer.build_loader = lambda start: (batch for _ in range(steps) for batch in [next(iter(shards(0, 1)(0)))])
    trainer.register_hooks([TaskScheduleHook(schedule("backbone", *ALL_TASKS, steps=steps), model)])
    trainer.train(0, steps)
    file = save(tmp_path / "trained.pth", model)
    first = {}
    for name, files in (("fresh", []), ("pretrained", [file])):
        started = make_network()
        cfg = tiny_cfg(**{"MODEL.MTL.INIT.NECK": files})
        load_parts(cfg, started)
        run = make_trainer(started)
        run.train(0, 1)
        first[name] = sum(run.storage.latest()[f"task/{task}"][0] for task in ALL_TASKS)
    assert first["pretrained"] < 0.8 * first["fresh"]


def test_tasks_that_a_hypernetwork_has_not_met_keep_their_embeddings_and_are_listed(tmp_path: Path, caplog) -> None:
    file = save(tmp_path / "two.pth", make_network(seed=1, tasks=("edge", "depth")))
    model = make_network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with caplog.at_level("INFO"):
        (report,) = load_parts(tiny_cfg(**{"MODEL.MTL.INIT.NECK": [file]}), model)
    state, found = model.state_dict(), torch.load(file, weights_only=True)["model"]
    new = ["neck.by_task.instance.weight", "neck.by_task.sem_seg.weight"]
    assert report.missing == new
    assert "  not in the file: neck.by_task.instance.weight" in caplog.text
    for key, value in state.items():
        loaded = key.startswith("neck.") and key not in new
        assert torch.equal(value, found[key] if loaded else before[key]), key


def test_the_head_of_a_task_comes_with_its_embedding(tmp_path: Path) -> None:
    other = make_network(seed=1)
    file = save(tmp_path / "edge.pth", other)
    model = make_network()
    before = model.neck.by_task["instance"].weight.clone()
    load_parts(tiny_cfg(**{"MODEL.MTL.INIT.HEADS": {"edge": file}}), model)
    assert torch.equal(model.neck.by_task["edge"].weight, other.neck.by_task["edge"].weight)
    assert torch.equal(model.neck.by_task["instance"].weight, before)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"depth": 3}, r"INIT.NECK: neck.generator.2.weight is \(24, 8\) in .*other.pth and \(16, 8\) here"),
        ({"depth": 1}, r"INIT.NECK: .*other.pth lacks 2 of \d+ entries, such as 'neck.convs.1.weight'"),
        (None, r"INIT.NECK: .*other.pth lacks \d+ of \d+ entries, such as 'neck.convs.0.weight'"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path, saved: dict | None, message: str) -> None:
    other = multitask_network(make_balancer("fixed")) if saved is None else make_network(**saved)
    file, model = save(tmp_path / "other.pth", other), make_network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_parts(tiny_cfg(**{"MODEL.MTL.INIT.NECK": [file]}), model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_without_a_neck_takes_none(tmp_path: Path) -> None:
    file = save(tmp_path / "neck.pth", make_network())
    with pytest.raises(WeightsError, match="INIT.NECK: the neck 'identity' of this network has no weights"):
        load_parts(tiny_cfg(**{"MODEL.MTL.INIT.NECK": [file]}), multitask_network(make_balancer("fixed")))


@pytest.mark.parametrize("trunk", ["edge", "average"])
def test_a_joint_stage_after_separate_networks_gets_their_necks(tmp_path: Path, trunk: str) -> None:
    tasks, options = ("sem_seg", "edge"), {"MODEL.MTL.NECK.NAME": "squeeze_excitation"}
    torch.manual_seed(0)
    separate = build_model(tiny_cfg(tasks, **options, **{"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}))
    with torch.no_grad():
        for p in separate.parameters():
            p.add_(0.1)
    cfg = tiny_cfg(tasks, **options)
    _start_from(cfg, save(tmp_path / "model_final.pth", separate), trunk)
    torch.manual_seed(1)
    joint = build_model(cfg)
    load_parts(cfg, joint)
    for task in tasks:
        expected = separate.network_of(task).neck.by_task[task].state_dict()
        found = joint.neck.by_task[task].state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
