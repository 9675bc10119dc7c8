"""The training step: gradients, an update or none, with what a multi-task run needs around them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn

from ..tasks.patience import LabelPatience
from .bad_steps import BadSteps, DivergedError, are_finite, reason_of, reason_of_gradients
from .buffers import Snapshot, changing_buffers
from .gradients import build_gradients
from .launch import unwrap
from .loss_log import LossLog, StepLog, write_means
from .optimizer import GradientClipper
from .precision import Precision, seed_step

__all__ = ["DivergedError", "MultiTaskTrainer", "peak_memory_mib", "seed_step"]

logger = logging.getLogger(__name__)


class MultiTaskTrainer(TrainerBase):
    """Trains a model that maps a list of dicts to a flat dict of losses whose sum is minimised.

    A model with tasks and a balancer (``MultiTaskFPN``) is asked for the losses of each task, which are weighed here.

    The random state of a step is a function of (seed, rank, iteration), so that a resumed run equals an
    uninterrupted one bit by bit. Losses stay on their device and are read and written every ``log_period`` iterations:
    one host sync a period instead of one a loss and step.

    A step whose losses or gradients are infinite or NaN, on any rank, is skipped on all of them: parameters, the
    optimizer's state and what the balancer remembers stay as they are. Whether it is, is read from the averaged
    gradients, which are the same on all ranks: a pass over them, and on a GPU one host sync a step. Where float16
    gradients overflow, which their scale is to find out in the first steps and now and then later, such a step is none
    of the bad ones in a row that end the training, unless the scale has fallen below 1.

    Attributes:
        skipped_images: how often each unreadable image was replaced by another one; complete on rank 0.
        seconds: spent in steps, waiting for data included and hooks not, over all parts of a resumed run.
        log: the losses and weights of the steps since they were last written.
        bad_steps: the count of skipped steps, over all parts of a resumed run.
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
        accumulate_steps: int = 1,
        max_bad_steps: int = 10,
        cosine_period: int = 0,
    ) -> None:
        """
        Args:
            model: in training mode, wrapped by ``create_ddp`` already.
            build_loader: called with the number of batches that were consumed, gives the (endless) loader
                from there.
            amp_dtype: "bfloat16", "float16" (CUDA only), or None for float32.
            log_period: iterations between two readings of the losses.
            accumulate_steps: parts that a rank's batch is cut into and that are run one after another.
            cosine_period: in every so many steps the cosines between the tasks' gradients are logged; 0 for never.
            max_bad_steps: so many skipped steps in a row end the training.
        """
        super().__init__()
        model.train()
        self.model = model
        self.build_loader = build_loader
        self.optimizer = optimizer
        self.seed = seed
        self.clip_gradients = clip_gradients
        self.log_period = log_period
        if torch.cuda.is_initialized():  # a stage has a peak of its own
            torch.cuda.reset_peak_memory_stats()
        self.precision = Precision(amp_dtype, next(model.parameters()).device.type)
        self.gradients = build_gradients(model, self.precision, seed, accumulate_steps, cosine_period)
        self.seconds = 0.0
        self.skipped_images: Counter[str] = Counter()
        self.bad_steps = BadSteps(max_bad_steps)
        self._newly_skipped: Counter[str] = Counter()
        self.log = LossLog()
        self._batches: Iterator[list[dict]]
        self._opened_at: int | None = None

    def open_loader(self, start_iter: int) -> None:
        """Build the loader from a batch on, before :meth:`train`: an error of its data is said outside of the loop."""
        self._batches, self._opened_at = iter(self.build_loader(start_iter)), start_iter

    def before_train(self) -> None:
        # Not in the constructor: only now is it known at which batch a resumed run goes on.
        if self._opened_at != self.start_iter:
            self.open_loader(self.start_iter)
        self._opened_at = None
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

        before = Snapshot(changing_buffers(unwrap(self.model)))
        self.optimizer.zero_grad()
        step = self.gradients(batch, self.iter)
        self.after_backward()
        if self.precision.scaler is not None:
            self.precision.scaler.unscale_(self.optimizer)
        if are_finite(self._parameters()):
            self._update()
            self.gradients.after_update()
            self.bad_steps.in_a_row = 0
            self.log.steps.append(StepLog(self._of_active_tasks(step.losses), step.others, data_time))
        else:
            before.restore()
            self._skip(step.losses)
        if (self.iter + 1) % self.log_period == 0 or self.iter + 1 >= self.max_iter:
            self.write_metrics()
        self.seconds += time.perf_counter() - start

    def after_backward(self) -> None:
        """Call the hooks that have ``after_backward``: all gradients are in place, and averaged over the ranks."""
        for hook in self._hooks:
            if hasattr(hook, "after_backward"):
                hook.after_backward()

    def _of_active_tasks(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the log: the zeros of a task that is not active would lower its mean."""
        model: Any = unwrap(self.model)
        active = getattr(model, "active_tasks", None)
        idle = set() if active is None else set(model.branches) - set(active)
        return {name: loss for name, loss in losses.items() if not idle or model.task_of(name) not in idle}

    def after_step(self) -> None:
        super().after_step()  # first: what the hooks remember is then that of a whole step
        self.bad_steps.check()

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _skip(self, losses: dict[str, Tensor]) -> None:
        """Leave the step out, and let the scale of float16 gradients fall."""
        scaler, reason = self.precision.scaler, reason_of(self.model, losses)
        if scaler is not None and scaler.get_scale() >= 1 and not reason:
            self.bad_steps.add_overflow(self.iter, scaler.get_scale())
        else:
            self.bad_steps.add(self.iter, reason or reason_of_gradients(self.model))
        if scaler is not None:
            scaler.update()
        self.optimizer.zero_grad()

    def _update(self) -> None:
        if self.clip_gradients is not None:
            # In the model's order, not the optimizer's: a norm is the same to the last bit whatever the groups are.
            self.clip_gradients(self.model.parameters())
        if (scaler := self.precision.scaler) is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _count_skipped(self, batch: list[dict]) -> None:
        for name in (name for sample in batch for name in sample.get("skipped_files", ())):
            if name not in self.skipped_images and name not in self._newly_skipped:
                logger.warning("%s cannot be used and was replaced by another image.", name)
            self._newly_skipped[name] += 1

    def write_metrics(self) -> None:
        """Write the means, over ranks and the steps since the last call, of all losses; every rank calls it.

        Steps that were skipped are not in the means; their number is ``bad_steps``.
        """
        gathered = comm.all_gather((self.log.read(), self._newly_skipped))
        self._newly_skipped = Counter()
        for _, skipped in gathered:
            self.skipped_images.update(skipped)
        if comm.is_main_process():
            write_means(self.storage, [steps for steps, _ in gathered])
            self.storage.put_scalar("bad_steps", self.bad_steps.total, smoothing_hint=False)

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["optimizer_name"] = type(self.optimizer).__name__
        state["seed"] = self.seed
        state["seconds"] = self.seconds
        state["skipped_images"] = dict(self.skipped_images + self._newly_skipped)
        state["bad_steps"] = self.bad_steps.total
        state["steps_without_label"] = {name: dict(patience.steps) for name, patience in self._patience().items()}
        if self.precision.scaler is not None:
            state["grad_scaler"] = self.precision.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """
        Raises:
            ValueError: it has no state of an optimizer, or that of another one, or of other parameter groups.
        """
        super().load_state_dict(state_dict)
        self._load_optimizer(state_dict)
        self.seconds = state_dict.get("seconds", 0.0)
        self.skipped_images = Counter(state_dict.get("skipped_images", {}))
        self.bad_steps.total = state_dict.get("bad_steps", 0)
        for name, patience in self._patience().items():
            patience.steps.update(state_dict.get("steps_without_label", {}).get(name, {}))
        if self.precision.scaler is not None and "grad_scaler" in state_dict:
            self.precision.scaler.load_state_dict(state_dict["grad_scaler"])
        if state_dict.get("seed", self.seed) != self.seed:
            logger.warning(
                "SEED is %d, but the checkpoint's run had SEED %d: images may repeat before an epoch is over.",
                self.seed,
                state_dict["seed"],
            )

    def _patience(self) -> dict[str, LabelPatience]:
        """That of each network, by its name in the model."""
        found = ((name, getattr(module, "patience", None)) for name, module in unwrap(self.model).named_modules())
        return {name: patience for name, patience in found if isinstance(patience, LabelPatience)}

    def _load_optimizer(self, state_dict: dict) -> None:
        if "optimizer" not in state_dict:
            raise ValueError("the checkpoint has no state of an optimizer")
        name = type(self.optimizer).__name__
        if (earlier := state_dict.get("optimizer_name", name)) != name:
            raise ValueError(f"SOLVER.MTL.OPTIMIZER gives {name}, but the checkpoint has the state of {earlier}")
        wanted = [dict(group) for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(state_dict["optimizer"])
        except ValueError as error:
            raise ValueError(f"the optimizer's groups are others, as of other SOLVER.MTL.PARTS ({error})") from error
        _warn_of_other_options(wanted, self.optimizer.param_groups)


def _warn_of_other_options(wanted: Sequence[dict[str, Any]], loaded: Sequence[dict[str, Any]]) -> None:
    """Torch's optimizers take those of a checkpoint, whatever the config has now."""
    for key in ("initial_lr", "weight_decay", "momentum", "betas"):
        for own, earlier in zip(wanted, loaded, strict=True):
            if key in own and key in earlier and own[key] != earlier[key]:
                logger.warning(
                    "--resume goes on with the optimizer's options of the checkpoint, such as %s %s, not with those of "
                    "the config, such as %s: start another OUTPUT_DIR from MODEL.WEIGHTS for these.",
                    key,
                    earlier[key],
                    own[key],
                )
                return


def peak_memory_mib(device: torch.device | str) -> float | None:
    """Return the largest peak of allocated GPU memory over the ranks, None on a CPU; every rank calls it."""
    if torch.device(device).type != "cuda":
        return None
    return max(comm.all_gather(torch.cuda.max_memory_allocated() / 2**20))
