"""What each balancer costs beside a plain sum of the losses, in the trainer's own step.

All steps are those of MultiTaskTrainer, with one network, one batch and a learning rate of 0. Before anything is timed,
the gradients that a method leaves are compared with the sum of the tasks' own gradients, each from a backward pass of
its own, times the weights that the method has logged: on all parameters for methods that weigh losses, on the backbone
for those that weigh gradients, whose heads keep their own. A method that refreshes its weights every k steps is timed
over k of them.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2.balancing import BALANCER_REGISTRY, FixedBalancer, GradientBalancer, build_balancer
from mtl_d2.engine.optimizer import build_optimizer
from mtl_d2.engine.trainer import MultiTaskTrainer
from mtl_d2.tasks import known_tasks

from .equality import Check
from .networks import COMMON, build_random, exact_convolutions, num_parameters, random_inputs
from .report import Comparison, Findings, compare
from .settings import Settings, read_settings
from .settings import add_arguments as add_settings
from .timing import Run, measure

SUMMARY = "every balancer against a plain sum"
PLAIN = "plain sum"
TOLERANCE = 1e-3
GOALS = {"losses": 1.06, "features": 1.10, "parameters": 1.45}  # by what is weighed
AS_THEY_ARE = ("famo", "gradnorm")  # without a goal: a second forward pass, and a method of its own
NODE = "MODEL.MTL.BALANCER"
# STCH's and DWA's first steps are as dear as the others, and a method that warms up does not show its weights.
OVERRIDES = (*COMMON, f"{NODE}.STCH.WARMUP", 1, f"{NODE}.DWA.PERIOD", 1, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False)


@dataclass(frozen=True)
class Method:
    """A balancer in the trainer's step.

    Attributes:
        trainer: of the network that all methods share; its balancer is put in before a step.
        steps: from one refresh to the next.
    """

    name: str
    balancer: nn.Module
    trainer: MultiTaskTrainer
    steps: int
    goal: float | None

    @property
    def weighs_gradients(self) -> bool:
        return isinstance(self.balancer, GradientBalancer)

    def step(self, iteration: int = 0) -> None:
        self.trainer.model.balancer = self.balancer
        self.trainer.iter = iteration
        with EventStorage() as self.trainer.storage:
            self.trainer.run_step()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="of MODEL.MTL.BALANCER.NAME (default: all)")


def run(args: argparse.Namespace) -> Findings:
    """Check equality, then time every method beside a plain sum.

    Raises:
        ValueError: there is no method of that name.
    """
    settings = read_settings(args)
    names = _names(args.methods)
    cfg = settings.cfg(OVERRIDES)
    inputs = random_inputs(cfg, settings, settings.batch_sizes[0])
    network: Any = build_random(cfg, inputs, settings.seed).train()
    setup = _Setup(cfg, network, inputs, settings, build_optimizer(cfg, network))
    methods = [setup.method(PLAIN), *_methods(names, setup)]
    with exact_convolutions():
        checks = check_equality(methods)
    comparisons: list[Comparison] = []
    if all(check.equal for check in checks):
        for method in methods if settings.bf16 else ():
            method.trainer.precision.dtype = torch.bfloat16  # from here on: equality is asserted in float32
        comparisons = _compare(methods, len(inputs), settings)
    return Findings(
        device=settings.device,
        rounds=settings.rounds,
        seed=settings.seed,
        setting={
            "network": "quick, of no meaning" if settings.quick else settings.config_file,
            "overrides": " ".join(settings.opts) or "none",
            "images": f"{settings.size[0]}x{settings.size[1]}, a batch of {len(inputs)}, labelled for "
            + ", ".join(network.branches),
            "device": f"{settings.device}, {'bfloat16 autocast' if settings.bf16 else 'float32'}, "
            f"{torch.get_num_threads()} threads",
        },
        checks=checks,
        comparisons=comparisons,
        parameters={"network": num_parameters(network)},
    )


def _names(wanted: Sequence[str] | None) -> list[str]:
    known = sorted(name for name, _ in BALANCER_REGISTRY)
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise ValueError(f"--methods {' '.join(unknown)}: expected some of {' '.join(known)}")
    return list(wanted or (name for name in known if name not in ("equal", "fixed")))


@dataclass(frozen=True)
class _Setup:
    """What all methods share. One optimizer: the momentum of each would take as much memory as the network."""

    cfg: CfgNode
    network: nn.Module
    inputs: list[dict[str, Any]]
    settings: Settings
    optimizer: torch.optim.Optimizer

    def method(self, name: str, *options: object) -> Method:
        cfg, settings = self.cfg.clone(), self.settings
        cfg.merge_from_list([f"{NODE}.NAME", "fixed" if name == PLAIN else name, *options])
        balancer = build_balancer(cfg, list(cfg.MODEL.MTL.TASKS), known_tasks()).to(settings.device)
        self.network.balancer = balancer
        trainer = MultiTaskTrainer(
            self.network,
            lambda start: repeat(self.inputs),
            self.optimizer,
            seed=settings.seed,
            log_period=10**9,
        )
        trainer.max_iter = 10**9
        trainer.before_train()
        where, steps = "", getattr(balancer, "period", 1)
        if isinstance(balancer, GradientBalancer):
            where = f" on {balancer.cut}" + (f", every {steps} steps" if steps > 1 else "")
        goal = None if settings.quick or name in (PLAIN, *AS_THEY_ARE) else GOALS[getattr(balancer, "cut", "losses")]
        return Method(f"{name}{where}", balancer, trainer, steps, goal)


def _methods(names: Sequence[str], setup: _Setup) -> list[Method]:
    methods = []
    for name in names:
        methods.append(setup.method(name))
        if methods[-1].weighs_gradients:
            methods.append(setup.method(name, f"{NODE}.GRADIENT.CUT", "parameters"))
    return methods


def check_equality(methods: Sequence[Method]) -> list[Check]:
    """The gradients of each method against the tasks' own, times the weights that it has logged."""
    plain = methods[0]
    own = _gradients_of_tasks(plain)
    return [
        Check(
            name=f"gradients of {method.name}, and the weighted sum of the tasks' own",
            difference=_difference(method, own),
            tolerance=TOLERANCE,
        )
        for method in methods
    ]


def _gradients_of_tasks(plain: Method) -> dict[str, dict[str, Tensor]]:
    """``{task: {parameter: gradient}}`` of the unweighted losses, in the random state of iteration 0."""
    network: Any = plain.trainer.model
    tasks, found = list(network.branches), {}
    for task in tasks:
        balancer = FixedBalancer({other: float(other == task) for other in tasks}).to(network.device)
        _, found[task] = _step(Method(task, balancer, plain.trainer, 1, None))
    return found


def _step(method: Method) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The logged weights of a step, and the gradients it leaves, ``{parameter: gradient}``."""
    method.step()
    weights = {
        key: float(value) for key, value in method.trainer.log.steps[-1].others.items() if key.startswith("balance/")
    }
    network = method.trainer.model
    return weights, {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def _difference(method: Method, own: Mapping[str, Mapping[str, Tensor]]) -> float:
    weights, found = _step(method)
    prior: Any = method.balancer.prior  # {task: alpha} where gradients are weighed: heads keep their own
    worst = 0.0
    for name in next(iter(own.values())):
        is_weighed = not method.weighs_gradients or name.startswith("backbone.")
        parts = [(weights[f"balance/{task}"] if is_weighed else prior[task]) * own[task][name] for task in own]
        expected = torch.stack(parts).sum(0)
        worst = max(worst, float((found[name] - expected).norm() / expected.norm().clamp(min=1e-12)))
    return worst


def _compare(methods: Sequence[Method], images: int, settings: Settings) -> list[Comparison]:
    """Every method over the plain sum, for as many steps, in the same rounds."""
    longest = {method.steps for method in methods}
    plain = {steps: f"{PLAIN}, {steps} steps" if steps > 1 else PLAIN for steps in sorted(longest)}
    runs = {plain[steps]: _steps(methods[0], steps) for steps in plain}
    runs |= {method.name: _steps(method, method.steps) for method in methods[1:]}
    seconds = measure(runs, rounds=settings.rounds, device=settings.device, title="training steps")
    return [
        compare(
            f"training step, {method.name}",
            {method.name: seconds[method.name], plain[method.steps]: seconds[plain[method.steps]]},
            images=images * method.steps,
            goal=method.goal,
        )
        for method in methods[1:]
    ]


def _steps(method: Method, steps: int) -> Run:
    def run() -> None:
        for iteration in range(steps):
            method.step(iteration)

    return run
