"""Steps that are not taken, because a loss or a gradient is infinite or NaN."""

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .launch import unwrap
from .loss_log import blame

logger = logging.getLogger(__name__)


class DivergedError(FloatingPointError):
    """Too many steps in a row had losses or gradients that are infinite or NaN; the weights are as before them."""


class BadSteps:
    """Counts the steps that were skipped, and says why they were.

    Args:
        max_in_a_row: so many of them end the training.

    Attributes:
        total: how many there were.
        in_a_row: how many since the last good one, overflows of the scale left out.
    """

    def __init__(self, max_in_a_row: int) -> None:
        if max_in_a_row < 1:
            raise ValueError(f"SOLVER.MTL.MAX_BAD_STEPS is {max_in_a_row}: expected 1 or more.")
        self.max_in_a_row = max_in_a_row
        self.total = 0
        self.in_a_row = 0
        self._last = ""

    def add(self, iteration: int, reason: str) -> None:
        self.total += 1
        self.in_a_row += 1
        self._last = f"iteration={iteration} {reason}"
        logger.warning("Infinite or NaN, so this step is skipped: %s", self._last)

    def add_overflow(self, iteration: int, scale: float) -> None:
        """Count a step whose finite losses gave gradients that overflow: float16's scale, of 1 or more, is to fall.

        Below 1 it makes gradients smaller than they are, so that it is no longer the scale that they overflow for.
        """
        self.total += 1
        logger.info("Gradients overflow at the scale %g, so this step is skipped: iteration=%d", scale, iteration)

    def check(self) -> None:
        """
        Raises:
            DivergedError: there were too many in a row; on every rank.
        """
        if self.in_a_row >= self.max_in_a_row:
            raise DivergedError(
                f"{self.in_a_row} steps in a row were skipped (SOLVER.MTL.MAX_BAD_STEPS), because losses or "
                f"gradients became infinite or NaN; the last at {self._last}. Clip gradients "
                "(SOLVER.CLIP_GRADIENTS), then --resume; or lower SOLVER.BASE_LR or warm up for longer in another "
                "OUTPUT_DIR, from MODEL.WEIGHTS of this one: a run that goes on keeps its rates."
            )


def are_finite(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether all gradients are. Averaged over ranks, they and so the answer are the same on all of them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return not gradients or bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())


def reason_of(model: nn.Module, losses: Mapping[str, Tensor]) -> str:
    """What became infinite or NaN: a loss with its task and rank, else "". Every rank calls it."""
    return blame(losses, getattr(unwrap(model), "task_of", lambda name: name.removeprefix("loss_")))


def reason_of_gradients(model: nn.Module) -> str:
    """The first parameter whose gradient is infinite or NaN, in words."""
    for name, p in unwrap(model).named_parameters():
        if p.grad is not None and not p.grad.isfinite().all():
            return f"the gradient of {name}, of losses that are finite"
    return "the sum of the losses"
