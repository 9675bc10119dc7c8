"""What a computation holds in tensors: counted, so that the answer is the same on every machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Within it, ``bytes`` is the size of the largest tensor that any operator made, backward included."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            # A broadcast view holds no more than its storage.
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, min(leaf.nbytes, leaf.untyped_storage().nbytes()))
        return out


@contextmanager
def kept_for_backward() -> Iterator[dict[int, int]]:
    """Yields {address: bytes} of what autograd keeps of the forward within; a storage counts once."""
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
