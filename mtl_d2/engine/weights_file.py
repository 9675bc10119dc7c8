"""Read files of weights without running code that they may carry."""

import pickle
import re
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
import torch

_CONVERT = (
    "If you trust its origin, convert it once: torch.save({'model': the state_dict, tensors only}, "
    "'weights.pth'), and give that file."
)
# Under whichever module name a release of numpy pickles them (numpy.core until 1.26, numpy._core since).
_RECONSTRUCT_ARRAY = np.empty(0).__reduce__()[0]
_RECONSTRUCT_SCALAR = np.float32(0).__reduce__()[0]
_HARMLESS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT_ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT_ARRAY,
    ("numpy.core.multiarray", "scalar"): _RECONSTRUCT_SCALAR,
    ("numpy._core.multiarray", "scalar"): _RECONSTRUCT_SCALAR,
    ("collections", "OrderedDict"): OrderedDict,
}


class UnsafeFileError(ValueError):
    """The file holds objects whose loading could run code."""


def read_pickled_arrays(path: str) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo: plain containers and numpy arrays, nothing else.

    Raises:
        UnsafeFileError: the file names any other class or function.
        ValueError: the file is no pickle, or not of a dict.
    """
    with open(path, "rb") as file:
        try:
            data = _ArrayUnpickler(file, path).load()
        except UnsafeFileError:
            raise
        except Exception as error:  # a truncated or foreign file fails in many ways
            raise ValueError(
                f"{path} is not a readable .pkl of weights ({error}): fetch or export it again."
            ) from error
    return _expect_dict(data, path)


def read_torch_file(path: str) -> dict[str, Any]:
    """Read a ``.pth`` with ``weights_only=True``, onto the CPU.

    Raises:
        UnsafeFileError: the file holds pickled objects other than tensors and plain containers.
        ValueError: the file is no checkpoint, or not of a dict.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error))
        if found is None and not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is not a checkpoint that torch.save wrote: fetch or export it again.") from error
        what = found.group(1) if found else "an object that is neither a tensor nor a plain container"
        raise UnsafeFileError(
            f"{path} holds {what} beside its tensors, and loading it could run code. {_CONVERT}"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is not a checkpoint that torch.save wrote ({error}): fetch or export it again."
        ) from error
    return _expect_dict(data, path)


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: str) -> None:
        super().__init__(file, encoding="latin1")  # the zoo's files were written by Python 2
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        if (module, name) not in _HARMLESS:
            raise UnsafeFileError(
                f"{self.path} holds {module}.{name} beside its numpy arrays, and loading it could run code. {_CONVERT}"
            )
        return _HARMLESS[module, name]


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 pickles bytes for protocol 2 as a call of ``codecs.encode``; no other codec is needed."""
    if encoding != "latin1":
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin1")


def _expect_dict(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__}; expected a dict of weights, or one with a 'model'.")
    return data
