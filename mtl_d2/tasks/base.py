"""What a task is: a small adapter between the shared features and the modules, labels and scores of one answer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator
from detectron2.layers import ShapeSpec
from detectron2.structures import ImageList
from detectron2.utils.registry import Registry
from torch import Tensor, nn

TASK_REGISTRY = Registry("TASK")
TASK_REGISTRY.__doc__ = "Task branches; a task's registered name is its class's ``name`` (see :func:`register_task`)."

Features = Mapping[str, Tensor]
Target = Callable[[dict[str, Any], T.TransformList], dict[str, Any]]


@dataclass(frozen=True)
class TaskBatch:
    """The images of a step that a branch works on, with their labels.

    Attributes:
        images: normalised and padded, ``tensor`` (N, 3, H, W).
        inputs: the N dicts of the mapper.
    """

    images: ImageList
    inputs: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.inputs)

    def labelled(self, keys: Sequence[str]) -> list[int]:
        """Indices of the images that carry every key; an empty label is a label, an absent one is not."""
        return [i for i, x in enumerate(self.inputs) if all(key in x for key in keys)]

    def select(self, indices: Sequence[int]) -> "TaskBatch":
        """The batch of these images only; itself where that is all of them."""
        if len(indices) == len(self):
            return self
        images = ImageList(self.images.tensor[list(indices)], [self.images.image_sizes[i] for i in indices])
        return TaskBatch(images, [self.inputs[i] for i in indices])

    def labels(self, key: str) -> list[Any]:
        """The label of each image, on the images' device."""
        return [x[key].to(self.images.tensor.device) for x in self.inputs]

    def dense_labels(self, key: str, ignore_value: int) -> Tensor:
        """A per-pixel label as one (N, H, W) tensor, padded to the size of the images' with ``ignore_value``.

        Not to the largest label: the image that the batch was padded for may not be labelled for this task.
        """
        labels = self.labels(key)
        padded = labels[0].new_full((len(labels), *self.images.tensor.shape[-2:]), ignore_value)
        for target, label in zip(padded, labels, strict=True):
            target[: label.shape[0], : label.shape[1]] = label
        return padded


class TaskBranch(ABC):
    """One task of the joint network.

    A branch is not a module: it refers to modules that the meta-architecture owns under Detectron2's names, so that
    Detectron2's checkpoints load by key. Everything that the rest of the project knows of a task stands here.

    Class attributes:
        name: the task's name in configs, losses, balancing and records.
        label_keys: keys of a model input that an image must carry to be trained on.
        output_key: key of the task's answer in the model's output; "" for a task without one, as
            :class:`mtl_d2.tasks.AuxiliaryTask`.
        metric: ``"<group>/<figure>"`` of the results that stands for the task, such as ``"edge/ODS"``.
        higher_is_better: the sign of ``metric``.
        depends_on: names of tasks whose outputs :meth:`inference` reads; of their features see :attr:`reads`.
    """

    name: ClassVar[str]
    label_keys: ClassVar[tuple[str, ...]]
    output_key: ClassVar[str]
    metric: str
    higher_is_better: bool = True
    depends_on: ClassVar[tuple[str, ...]] = ()

    @classmethod  # noqa: B027 - not abstract: the tasks of the package have their keys in config/
    def add_config(cls, cfg: CfgNode) -> None:
        """Add the config keys of a task from outside the package to Detectron2's and mtl_d2's, in place."""

    @classmethod
    def build_target(cls, cfg: CfgNode) -> Target | None:
        """What makes the labels of a task from outside the package; None where the mapper itself does.

        Returns:
            a picklable ``(record, transforms) -> {label key: label}``. ``record`` is a dataset's, ``transforms`` were
            applied to the image (``apply_image``, ``apply_segmentation``). Without a label for the task it gives {}.
        """
        return None

    @classmethod
    @abstractmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "TaskBranch":
        """The branch with its modules, from a config and the shapes of the backbone's features."""

    @property
    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """``{attribute of the meta-architecture: module}``; a dotted one is an attribute of another task's module."""

    @property
    def owned_modules(self) -> dict[str, nn.Module]:
        """``{path in the meta-architecture: module}`` of all that the task trains, and no task that depends on it."""
        return self.modules

    def connect(self, branches: Mapping[str, "TaskBranch"]) -> None:  # noqa: B027 - not abstract: most stand alone
        """Get hold of the branches in ``depends_on``, by name; called once, before any image is seen."""

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """The keys of :meth:`losses`, the same in every step and on every rank."""

    @property
    def gives(self) -> tuple[str, ...]:
        """Names of the :meth:`shared_features`, which no level of the backbone has."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of other branches' shared features that stand in ``features``, in training and in inference."""
        return ()

    def shared_features(self, features: Features, images: Tensor) -> dict[str, Tensor]:
        """What other branches may read: ``{name: (N, C, h, w)}`` with the names of :attr:`gives`.

        Made once in a step and over all images, labelled or not, active or not, if any branch of the network reads
        some of it. Then it stands in this branch's own ``features`` too, which need not make it again. The gradients
        of who reads it go on into this branch's modules and, in a step in which its task is active, train them.

        Args:
            features: what this branch reads.
            images: (N, 3, H, W), normalised and padded.
        """
        return {}

    def term_labels(self, batch: TaskBatch) -> dict[str, bool]:
        """Whether the batch has the labels of those losses that need more than ``label_keys``, by loss name."""
        return {}

    @abstractmethod
    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        """``{loss name: scalar}`` over a batch in which every image carries the task's labels.

        Args:
            features: of the backbone and of :attr:`reads`, for these images.
        """

    @abstractmethod
    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Any]:
        """One raw output per image, in the padded input's coordinates.

        Args:
            features: of the backbone and of :attr:`reads`.
            batch: the images.
            outputs: raw outputs of the tasks in ``depends_on``.
        """

    @abstractmethod
    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Any:
        """A raw output at the resolution (height, width) that was asked for."""

    @classmethod
    @abstractmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> DatasetEvaluator:
        """The evaluator of the task's answers on a registered dataset."""

    def zero_losses(self) -> dict[str, Tensor]:
        """The losses of a step without a label: zeros that keep every parameter of the branch in the graph.

        DistributedDataParallel needs the same parameters used on all ranks. The zero is taken over parameters,
        not outputs: 0 * inf of a diverged output would be NaN.
        """
        zero = zero_over(p for module in self.owned_modules.values() for p in module.parameters())
        return dict.fromkeys(self.loss_names, zero)


def zero_over(parameters: Iterable[nn.Parameter]) -> Tensor:
    """A zero scalar with a (zero) gradient for each of the trainable parameters."""
    every = list(parameters)
    terms = [p.flatten()[:1].sum() * 0.0 for p in every if p.requires_grad]
    return torch.stack(terms).sum() if terms else torch.zeros((), device=every[0].device if every else None)


def register_task(cls: type[TaskBranch]) -> type[TaskBranch]:
    """Class decorator: make a task known under ``cls.name`` to ``MODEL.MTL.TASKS``."""
    TASK_REGISTRY._do_register(cls.name, cls)
    return cls


def known_tasks() -> list[str]:
    """Names of all registered tasks."""
    return sorted(name for name, _ in TASK_REGISTRY)


def get_task(name: str) -> type[TaskBranch]:
    """The branch class of a task.

    Raises:
        ValueError: there is no such task.
    """
    if name not in TASK_REGISTRY:
        raise ValueError(f"MODEL.MTL.TASKS names {name!r}, which is no task: known are {known_tasks()}")
    return TASK_REGISTRY.get(name)
