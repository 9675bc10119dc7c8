"""Files of weights: read without running code that they may carry, and written whole or not at all."""

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import get_cache_dir

_DETECTRON2_URL = ("detectron2://", "https://dl.fbaipublicfiles.com/detectron2/")
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


class WeightsError(ValueError):
    """A file of weights is missing, unreadable, or does not give what the config says that it gives."""


class UnsafeFileError(WeightsError):
    """The file holds objects whose loading could run code."""


def fetch(path: str) -> str:
    """The local file of a path, a URL or a ``detectron2://`` name; it may not be there if it is a path.

    Raises:
        WeightsError: a URL that cannot be fetched; says where to put the file by hand.
    """
    try:
        return PathManager.get_local_path(path)
    except Exception as error:  # the handlers of iopath raise what their transport raises
        if "://" not in path:
            raise
        raise WeightsError(
            f"{path} could not be fetched ({error}): download it elsewhere and put it at "
            f"{_cache_path(path)}, or set MODEL.WEIGHTS to a local file."
        ) from error


def check_there(path: str, key: str) -> None:
    """Raise WeightsError, naming the config's key, for a local file that is not there."""
    if path and "://" not in path and not os.path.isfile(path):
        raise WeightsError(
            f"{key} is {path}, where no file is (looked up from {os.getcwd()}): name a checkpoint that was written, "
            "or '' to train from scratch."
        )


def _cache_path(url: str) -> str:
    """Where iopath looks for the file of a URL before it fetches it."""
    prefix, target = _DETECTRON2_URL
    url = url.replace(prefix, target, 1) if url.startswith(prefix) else url
    return os.path.join(get_cache_dir(), url.partition("://")[2].partition("/")[2].partition("?")[0])


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a local ``.pth``, or a ``.pkl`` of a model zoo: the weights under "model", and what stands beside them.

    Raises:
        UnsafeFileError: the file holds objects whose loading could run code.
        WeightsError: the file is no checkpoint.
    """
    if not path.endswith(".pkl"):
        data = read_torch_file(path)
        return data if "model" in data else {"model": data}
    data = read_pickled_arrays(path)
    if "model" in data:
        return data
    blobs = data.get("blobs", data)  # Caffe2's: detection models nest them, ImageNet models do not
    model = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}


def read_pickled_arrays(path: str) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo: plain containers and numpy arrays, nothing else.

    Raises:
        UnsafeFileError: the file names any other class or function.
        WeightsError: the file is no pickle, or not of a dict.
    """
    with open(path, "rb") as file:
        try:
            data = _ArrayUnpickler(file, path).load()
        except UnsafeFileError:
            raise
        except Exception as error:  # a truncated or foreign file fails in many ways
            raise WeightsError(
                f"{path} is not a readable .pkl of weights ({error}): fetch or export it again."
            ) from error
    return _expect_dict(data, path)


def read_torch_file(path: str) -> dict[str, Any]:
    """Read a ``.pth`` with ``weights_only=True``, onto the CPU.

    Raises:
        UnsafeFileError: the file holds pickled objects other than tensors and plain containers.
        WeightsError: the file is no checkpoint, or not of a dict.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global:?) ([\w.]+)", str(error))
        if found is None and not zipfile.is_zipfile(path):
            raise WeightsError(
                f"{path} is not a checkpoint that torch.save wrote: fetch or export it again."
            ) from error
        what = found.group(1) if found else "an object that is neither a tensor nor a plain container"
        raise UnsafeFileError(
            f"{path} holds {what} beside its tensors, and loading it could run code. {_CONVERT}"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a checkpoint that torch.save wrote ({error}): fetch or export it again."
        ) from error
    return _expect_dict(data, path)


def write_torch_file(path: str, states: dict[str, Any]) -> None:
    """Write a ``.pth``, whole or not at all: a reader never meets a half-written file."""
    torch.save(states, path + ".part")
    os.replace(path + ".part", path)


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
        raise WeightsError(f"{path} holds a {type(data).__name__}; expected a dict of weights, or one with a 'model'.")
    return data
