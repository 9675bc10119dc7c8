"""The training step: one forward, one backward, with what a multi-task run needs around them."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import nn

from .launch import unwrap
from .optimizer import GradientClipper

logger = logging.getLogger(__name__)

_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MultiTaskTrainer(TrainerBase):
    """Trains a model that maps a list of dicts to a flat dict of losses whose sum is minimised.

    The random state of a step is a function of (seed, rank, iteration), so that a resumed run equals an
    uninterrupted one bit by bit. Losses stay on their device and are read, checked and written every
    ``log_period`` iterations: one host sync a period instead of one a loss and step. All ranks see all losses
    there, and stop together.

    Attributes:
        skipped_images: how often each unreadable image was replaced by another one; complete on rank 0.
        seconds: spent in steps, waiting for data included and hooks not, over all parts of a resumed run.
    """

    def __init__(
        self,
        model: nn.Module,
        build_loader: Callable[[int], Iterable[list[dict]]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        amp_dtype: str | None = None,
        clip_gradients: GradientClipper | None = None,
        log_period: int = 20,
    ) -> None:
        """
        Args:
            model: in training mode, wrapped by ``create_ddp`` already.
            build_loader: called with the number of batches that were consumed, gives the (endless) loader
                from there.
            amp_dtype: "bfloat16", "float16" (CUDA only), or None for float32.
            log_period: iterations between two readings of the losses.
        """
        super().__init__()
        model.train()
        self.model = model
        self.build_loader = build_loader
        self.optimizer = optimizer
        self.seed = seed
        self.clip_gradients = clip_gradients
        self.log_period = log_period
        self.device_type = next(model.parameters()).device.type
        self.amp_dtype = _check_amp_dtype(amp_dtype, self.device_type)
        self.grad_scaler = torch.amp.GradScaler("cuda") if self.amp_dtype == torch.float16 else None
        self.seconds = 0.0
        self.skipped_images: Counter[str] = Counter()
        self._newly_skipped: Counter[str] = Counter()
        self._pending: list[tuple[int, dict[str, torch.Tensor], float]] = []
        self._batches: Iterator[list[dict]]

    def before_train(self) -> None:
        # Here, and not in the constructor: only now is it known at which batch a resumed run goes on.
        self._batches = iter(self.build_loader(self.start_iter))
        super().before_train()

    def run_step(self) -> None:
        if not self.model.training:
            raise RuntimeError("the model was left in eval mode: call model.train() after an evaluation in a hook.")
        start = time.perf_counter()
        batch = next(self._batches, None)
        if batch is None:
            raise RuntimeError(f"the training loader ended at iteration {self.iter}; it must repeat its dataset.")
        data_time = time.perf_counter() - start
        self._count_skipped(batch)

        losses = self._forward(batch)
        total = reduce(torch.add, losses.values())
        self.optimizer.zero_grad()
        self._backward(total)
        self.after_backward()
        self._pending.append((self.iter, self._of_active_tasks(losses), data_time))
        if (self.iter + 1) % self.log_period == 0 or self.iter + 1 >= self.max_iter:
            self.write_metrics()
        self._optimizer_step()
        self.seconds += time.perf_counter() - start

    def _forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        seed_step(self.seed, comm.get_rank(), self.iter)
        try:
            with torch.autocast(self.device_type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
                return self.model(batch)
        except FloatingPointError:
            # A head met NaN weights: the loss that made them is still unread, and is the better explanation.
            self._raise_if_not_finite([self._read_pending()])
            raise

    def after_backward(self) -> None:
        """Call the hooks when all gradients are in place, before they are clipped (as in Detectron2's main)."""
        for hook in self._hooks:
            if hasattr(hook, "after_backward"):  # release 0.6 has no such hooks
                hook.after_backward()

    def _of_active_tasks(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """For the log: the zeros of a task that is not active would lower its mean."""
        model: Any = unwrap(self.model)
        active = getattr(model, "active_tasks", None)
        idle = [] if active is None else [branch for task, branch in model.branches.items() if task not in active]
        unused = {name for branch in idle for name in branch.loss_names}
        return {name: loss.detach() for name, loss in losses.items() if name not in unused}

    def _backward(self, total: torch.Tensor) -> None:
        if self.grad_scaler is None:
            total.backward()
        else:
            self.grad_scaler.scale(total).backward()

    def _optimizer_step(self) -> None:
        if self.grad_scaler is not None and self.clip_gradients is not None:
            self.grad_scaler.unscale_(self.optimizer)
        if self.clip_gradients is not None:
            # In the model's order, not the optimizer's: a norm is the same to the last bit whatever the groups are.
            self.clip_gradients(self.model.parameters())
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def _count_skipped(self, batch: list[dict]) -> None:
        for name in (name for sample in batch for name in sample.get("skipped_files", ())):
            if name not in self.skipped_images and name not in self._newly_skipped:
                logger.warning("%s cannot be used and was replaced by another image.", name)
            self._newly_skipped[name] += 1

    def write_metrics(self) -> None:
        """Write the means, over ranks and the steps since the last call, of all losses; every rank calls it.

        Raises:
            FloatingPointError: on every rank, naming the first loss that was infinite or NaN on any of them.
        """
        gathered = comm.all_gather((self._read_pending(), self._newly_skipped))
        self._pending, self._newly_skipped = [], Counter()
        ranks = [steps for steps, _ in gathered]
        for _, skipped in gathered:
            self.skipped_images.update(skipped)
        self._raise_if_not_finite(ranks)
        steps = [step for rank in ranks for step in rank]
        if not comm.is_main_process() or not steps:
            return
        names = dict.fromkeys(name for _, losses, _ in steps for name in losses)
        means = {name: float(np.mean([losses[name] for _, losses, _ in steps if name in losses])) for name in names}
        # The mean of a period needs no further smoothing; writers take a median of what has the hint.
        self.storage.put_scalars(smoothing_hint=False, total_loss=sum(means.values()), **means)
        # The slowest rank is what the others wait for.
        slowest = max(float(np.mean([seconds for _, _, seconds in rank])) for rank in ranks)
        self.storage.put_scalar("data_time", slowest)

    def _read_pending(self) -> list[tuple[int, dict[str, float], float]]:
        """Bring all unread losses to the host in one copy."""
        if not self._pending:
            return []
        values = torch.stack([loss.float() for _, losses, _ in self._pending for loss in losses.values()]).tolist()
        numbers = iter(values)
        return [(it, {name: next(numbers) for name in losses}, seconds) for it, losses, seconds in self._pending]

    def _raise_if_not_finite(self, ranks: list[list[tuple[int, dict[str, float], float]]]) -> None:
        steps = ((it, rank, losses) for rank, steps in enumerate(ranks) for it, losses, _ in steps)
        for iteration, rank, losses in sorted(steps, key=lambda step: step[:2]):
            bad = [name for name, value in losses.items() if not np.isfinite(value)]
            if bad:
                blame = ", ".join(f"{name} (task {self._task_of(name)!r}) = {losses[name]}" for name in bad)
                raise FloatingPointError(
                    f"Loss became infinite or NaN at iteration={iteration} on rank {rank}: {blame}; all "
                    f"losses: {losses}. Lower SOLVER.BASE_LR, warm up for longer, or clip gradients; then "
                    "--resume."
                )

    def _task_of(self, loss_name: str) -> str:
        branches = getattr(unwrap(self.model), "branches", {})
        owners = [task for task, branch in branches.items() if loss_name in branch.loss_names]
        return owners[0] if owners else loss_name.removeprefix("loss_")

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["seed"] = self.seed
        state["seconds"] = self.seconds
        state["skipped_images"] = dict(self.skipped_images + self._newly_skipped)
        if self.grad_scaler is not None:
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.seconds = state_dict.get("seconds", 0.0)
        self.skipped_images = Counter(state_dict.get("skipped_images", {}))
        if self.grad_scaler is not None and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        if state_dict.get("seed", self.seed) != self.seed:
            logger.warning(
                "SEED is %d, but the checkpoint's run had SEED %d: images may repeat before an epoch is over.",
                self.seed,
                state_dict["seed"],
            )


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Set the global random states (torch with CUDA, numpy, random) to a function of the three numbers."""
    state = int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1)[0])
    torch.manual_seed(state)
    np.random.seed(state)  # noqa: NPY002 - the global generator is what heads and Detectron2 draw from
    random.seed(state)


def peak_memory_mib(device: torch.device | str) -> float | None:
    """Return the largest peak of allocated GPU memory over the ranks, None on a CPU; every rank calls it."""
    if torch.device(device).type != "cuda":
        return None
    return max(comm.all_gather(torch.cuda.max_memory_allocated() / 2**20))


def _check_amp_dtype(name: str | None, device_type: str) -> torch.dtype | None:
    if name is None:
        return None
    if name not in _AMP_DTYPES:
        raise ValueError(f"SOLVER.MTL.AMP_DTYPE is {name!r}; expected one of {sorted(_AMP_DTYPES)}.")
    if name == "float16" and device_type != "cuda":
        raise ValueError(
            f"SOLVER.MTL.AMP_DTYPE float16 needs a GPU (its gradients must be scaled), and MODEL.DEVICE is "
            f"{device_type!r}: use bfloat16, or set SOLVER.AMP.ENABLED False."
        )
    return _AMP_DTYPES[name]
