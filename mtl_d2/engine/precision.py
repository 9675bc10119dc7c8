"""The precision of a training step, and the random state that it starts from."""

import random
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Autocast of the forward pass, and the scale of the backward pass.

    Args:
        amp_dtype: "bfloat16", "float16" (CUDA only), or None for float32.
        device_type: "cpu" or "cuda".

    Attributes:
        scaler: of the gradients, where the type is float16.

    Raises:
        ValueError: another type, or float16 on a CPU.
    """

    def __init__(self, amp_dtype: str | None, device_type: str) -> None:
        self.device_type = device_type
        self.dtype = check_amp_dtype(amp_dtype, device_type)
        self.scaler = torch.amp.GradScaler("cuda") if self.dtype == torch.float16 else None

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale that its gradients are kept at until the optimizer's step; 1 but for float16."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def backward(self, loss: Tensor, retain_graph: bool = False) -> None:
        """Add the (scaled) gradients of a scalar to those of its leaves.

        Where the loss is infinite or NaN, all its gradients are NaN: averaged over ranks they tell each of them that
        this step is not to be taken, without a word between them and without a look at the loss.
        """
        scaled = self.scale(loss)
        finite = loss.detach().isfinite()
        gradient = torch.where(finite, torch.ones_like(scaled), torch.full_like(scaled, torch.nan))
        scaled.backward(gradient, retain_graph=retain_graph)


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Set the global random states (torch with CUDA, numpy, random) to a function of the three numbers."""
    state = int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1)[0])
    torch.manual_seed(state)
    np.random.seed(state)  # noqa: NPY002 - the global generator is what heads and Detectron2 draw from
    random.seed(state)


def check_amp_dtype(name: str | None, device_type: str) -> torch.dtype | None:
    """Return the type of that name; see :class:`Precision` for names and errors."""
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
