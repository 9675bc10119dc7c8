"""The joint network: one FPN backbone, computed once, and a branch for each task."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from .balancing import Balancer, build_balancer
from .modeling.necks import IdentityNeck, Neck, build_neck
from .modeling.panoptic_merge import PanopticMerge
from .tasks import StepFeatures, TaskBatch, TaskBranch, get_task, known_tasks
from .tasks.base import Features, zero_over
from .tasks.patience import LabelPatience
from .tasks.scales import LabelScales, label_scales, labelled_tasks
from .tasks.step_features import givers
from .tasks.task_log import TaskLog


@META_ARCH_REGISTRY.register()
class MultiTaskFPN(nn.Module):
    """Several tasks on one backbone, trained on images that carry labels for any subset of them.

    Each task's loss is that of a batch with only its labelled images, over all ranks; the other tasks' do not change.

    Args:
        backbone: gives ``{name: (N, C, H / stride, W / stride)}``.
        branches: the tasks; their modules become attributes under Detectron2's names.
        balancer: weighs the tasks.
        neck: makes the features of a task from those of the backbone; None for those themselves.
        pixel_mean, pixel_std: per channel, in the image's units.
        panoptic: merges instances and semantics; None for no panoptic output.
        label_patience: a task that sees no label for so many batches in a row raises.
        channels_last: memory format of convolutions and images.

    Attributes:
        active_tasks: those in the losses of the steps to come; the others are as if no image had their labels, and are
            not computed. None for all.

    Raises:
        ValueError: two branches of one name, a branch without those that it depends on or reads features of, or a
            balancer of other tasks.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        branches: Sequence[TaskBranch],
        balancer: Balancer,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        neck: Neck | None = None,
        panoptic: PanopticMerge | None = None,
        label_patience: int = 1000,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck if neck is not None else IdentityNeck({})
        self.branches = {branch.name: branch for branch in branches}
        if len(self.branches) != len(branches):
            raise ValueError(f"MODEL.MTL.TASKS names a task twice: {[branch.name for branch in branches]}")
        for branch in branches:
            missing = set(branch.depends_on) - set(self.branches)
            if missing:
                raise ValueError(f"task {branch.name!r} depends on {sorted(missing)}: add them to MODEL.MTL.TASKS")
        if {*getattr(balancer, "tasks", self.branches)} != {*self.branches}:
            raise ValueError(
                f"the balancer weighs the tasks {sorted(balancer.tasks)}, the network has {sorted(self.branches)}: "
                "give it a weight for each of these, and for no other."
            )
        self._add_modules()
        self._givers = givers(self.branches)
        self.balancer = balancer
        self.panoptic = panoptic if {"instance", "sem_seg"} <= set(self.branches) else None
        self.patience = LabelPatience(self.branches, label_patience)
        self.active_tasks: Collection[str] | None = None
        self.task_log = TaskLog()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def _add_modules(self) -> None:
        modules = [item for branch in self.branches.values() for item in branch.modules.items()]
        for path, module in sorted(modules, key=lambda item: item[0].count(".")):  # a parent before its parts
            parent, _, name = path.rpartition(".")
            self.get_submodule(parent).add_module(name, module)
        for branch in self.branches.values():
            branch.connect({name: self.branches[name] for name in branch.depends_on})

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        tasks = list(cfg.MODEL.MTL.TASKS)
        if not tasks:
            raise ValueError(f"MODEL.MTL.TASKS is empty: name at least one of {known_tasks()}")
        balancer = build_balancer(cfg, tasks, known_tasks())
        backbone = build_backbone(cfg)
        neck = build_neck(cfg, backbone.output_shape())
        branches = [get_task(name).build(cfg, neck.output_shape()) for name in tasks]
        return {
            "backbone": backbone,
            "neck": neck,
            "branches": branches,
            "balancer": balancer,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "panoptic": PanopticMerge.from_config(cfg) if cfg.MODEL.MASK_ON else None,
            "label_patience": cfg.MODEL.MTL.LABEL_PATIENCE,
            "channels_last": cfg.MODEL.MTL.CHANNELS_LAST,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def network_of(self, task: str) -> "MultiTaskFPN":
        """The network that answers to a task: this one, for all of them."""
        return self

    def task_of(self, loss_name: str) -> str:
        """The task that a key of the losses belongs to; for ``loss_<x>`` of none, such as the balancer's, ``<x>``."""
        owners = (task for task, branch in self.branches.items() if loss_name in branch.loss_names)
        return next(owners, loss_name.removeprefix("loss_"))

    def forward(
        self, batched_inputs: list[dict[str, Any]] | TaskBatch, scales: LabelScales | None = None
    ) -> dict[str, Tensor] | dict[str, dict[str, Tensor]] | list[dict[str, Any]]:
        """Losses in training, answers otherwise.

        Args:
            batched_inputs: one dict per image, of the mapper:

                * ``image``: (3, H, W), 0..255, channels in the order of ``cfg.INPUT.FORMAT``
                * ``instances`` (training): Instances with ``gt_boxes``, ``gt_classes`` and, where they are labelled,
                  ``gt_masks``; beside them ``crowd_boxes``: (C, 4), regions that are neither object nor background
                * ``keypoints`` (training): Keypoints (R, K, 3) of those instances, x, y in pixels and COCO's visibility
                * ``sem_seg`` (training): long (H, W), class ids, 255 for ignored pixels
                * ``edge`` (training): long (H, W), 1 on an edge, 0 off it, 255 for ignored pixels
                * ``image_labels`` (training): float (K,), 1 for a class in the image, 0 for one that is not, -1 unknown
                * ``height``, ``width`` (inference): the resolution of the answers; the image's by default

                An image without a key is unlabelled for that task.
            scales: given by a trainer that balances, with a batch of :meth:`preprocess`, see :meth:`forward_tasks`.

        Returns:
            In training the flat ``{loss name: scalar}`` whose sum is minimised, or, with ``scales``, the losses before
            balancing, ``{task: {loss name: scalar}}``; otherwise see :meth:`inference`.
        """
        if not self.training:
            return self.inference(batched_inputs)  # type: ignore  # postprocessed, so a list
        _, losses, labelled = self.forward_tasks(batched_inputs, scales)
        if scales is not None:
            return losses
        flat, weights = self.balancer(losses, labelled)
        self.task_log.write(losses, weights, self.balancer.learned())
        return flat

    def forward_tasks(
        self, batched_inputs: list[dict[str, Any]] | TaskBatch, scales: LabelScales | None = None
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], list[str]]:
        """The shared features, ``{task: {loss name: scalar}}`` before balancing, and the tasks with a label anywhere.

        Args:
            batched_inputs: see :meth:`forward`; or of :meth:`preprocess`.
            scales: of :meth:`label_scales`, for a part of a step; None where this is all that a rank runs.

        Raises:
            RuntimeError: a task has seen no label on any rank for ``label_patience`` batches.
        """
        batch = batched_inputs if isinstance(batched_inputs, TaskBatch) else self.preprocess(batched_inputs)
        scales = self.label_scales([batch]) if scales is None else scales
        features = self.extract_features(batch)
        aggregated = self.neck.aggregate(features)
        shared = self.step_features(lambda: aggregated, batch)
        losses = {name: self.task_losses(name, shared, batch, scales) for name in self.branches}
        self._attach_neck(losses)
        return features, losses, labelled_tasks(scales)

    def task_losses(
        self, name: str, features: StepFeatures, batch: TaskBatch, scales: LabelScales
    ) -> dict[str, Tensor]:
        """``{loss name: scalar}`` of one task, before balancing.

        Args:
            features: of :meth:`step_features`, the same for all tasks of a step.
        """
        branch = self.branches[name]
        indices = batch.labelled(branch.label_keys) if self._is_active(name) else []
        losses = self._branch_losses(branch, features, batch, indices)
        for term, loss in losses.items():
            scale = scales.get((name, term), scales[name,])
            if scale not in (0.0, 1.0):
                losses[term] = loss * scale
        return losses

    def _is_active(self, name: str) -> bool:
        return self.active_tasks is None or name in self.active_tasks

    def _branch_losses(
        self, branch: TaskBranch, features: StepFeatures, batch: TaskBatch, indices: list[int]
    ) -> dict[str, Tensor]:
        if not indices:
            # The levels that only this branch reads have no other gradient in this step.
            trunk_zero = zero_over([*self.backbone.parameters(), *self.neck.parameters()])
            return {key: loss + trunk_zero for key, loss in branch.zero_losses().items()}
        own = features.of(branch.name)
        if len(indices) < len(batch):
            own = {key: feature[indices] for key, feature in own.items()}
        return branch.losses(own, batch.select(indices))

    def _attach_neck(self, losses: dict[str, dict[str, Tensor]]) -> None:
        """Give each parameter of the neck a gradient: DDP waits for that of a level that a task does not read too."""
        parameters = [p for p in self.neck.parameters() if p.requires_grad]
        if parameters:
            terms = next(iter(losses.values()))
            name = next(iter(terms))
            terms[name] = terms[name] + zero_over(parameters)

    def label_scales(self, parts: Sequence[TaskBatch]) -> LabelScales:
        """By what the losses of this step's parts are multiplied, see :func:`.tasks.scales.label_scales`.

        Called once a step, on every rank.

        Raises:
            RuntimeError: a task has seen no label on any rank for ``label_patience`` batches.
        """
        active = {name: branch for name, branch in self.branches.items() if self._is_active(name)}
        scales = {(name,): 0.0 for name in self.branches} | label_scales(active, parts, self.device)
        self.patience.update(active, scales)
        return scales

    @torch.no_grad()
    def inference(
        self, batched_inputs: list[dict[str, Any]], tasks: Iterable[str] | None = None, do_postprocess: bool = True
    ) -> list[dict[str, Any]] | dict[str, list]:
        """The answers to the tasks asked for; only their branches, and those they depend on, are computed.

        Args:
            batched_inputs: see :meth:`forward`.
            tasks: names of configured tasks; all that have an answer by default.
            do_postprocess: False for the raw outputs ``{task: [one per image]}`` in the padded input's coordinates.

        Returns:
            one dict per image, at the resolution (``height``, ``width``):

            * ``instances``: Instances with ``pred_boxes`` (pixels), ``scores`` (0..1), ``pred_classes`` and
              ``pred_masks`` (R, H, W) bool; where keypoints are asked for, ``pred_keypoints`` (R, K, 3): x, y in
              pixels and a score above 0
            * ``sem_seg``: (K, H, W) logits
            * ``edge``: (H, W) probabilities
            * ``image_labels``: (K,) probabilities
            * ``panoptic_seg``: int32 (H, W), 0 for void, and a list of segments as in Detectron2's Panoptic FPN, where
              both instances and semantics were asked for

        Raises:
            ValueError: a task is not configured, or has no answer.
        """
        answers = [name for name, branch in self.branches.items() if branch.output_key]
        wanted = answers if tasks is None else list(tasks)
        outputs: dict[str, list] = {}
        batch = self.preprocess(batched_inputs)
        order = self.with_dependencies(wanted)
        answering = {*wanted, *(needed for name in order for needed in self.branches[name].depends_on)}
        aggregated = self.neck.aggregate(self.extract_features(batch))
        shared = self.step_features(lambda: aggregated, batch)
        for name in filter(answering.__contains__, order):
            outputs[name] = self.branches[name].inference(shared.of(name), batch, outputs)
        outputs = {name: outputs[name] for name in order if name in wanted}
        return self._postprocess(outputs, batch) if do_postprocess else outputs

    def with_dependencies(self, wanted: Sequence[str]) -> list[str]:
        """The tasks, each after those whose outputs or features it reads.

        Raises:
            ValueError: a task is not configured, or has no answer.
        """
        order: list[str] = []
        for name in wanted:
            if name not in self.branches:
                raise ValueError(f"task {name!r} is not part of this network: it has {sorted(self.branches)}")
            if not self.branches[name].output_key:
                raise ValueError(f"task {name!r} has no answer: it only trains other tasks")
            read = (*self.branches[name].depends_on, *self._givers[name])
            for needed in (*self.with_dependencies(read), name):
                if needed not in order:
                    order.append(needed)
        return order

    def _postprocess(self, outputs: dict[str, list], batch: TaskBatch) -> list[dict[str, Any]]:
        results = []
        # A task that answers under another's key, after it, has that one's answer in its own.
        tasks = {self.branches[name].output_key: name for name in outputs}.values()
        for i, (x, image_size) in enumerate(zip(batch.inputs, batch.images.image_sizes, strict=True)):
            height, width = x.get("height", image_size[0]), x.get("width", image_size[1])
            result = {}
            for name in tasks:
                branch = self.branches[name]
                result[branch.output_key] = branch.postprocess(outputs[name][i], image_size, height, width)
            if self.panoptic and {"instances", "sem_seg"} <= set(result):
                result["panoptic_seg"] = self.panoptic(result["instances"], result["sem_seg"])
            results.append(result)
        return results

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> TaskBatch:
        """Normalise the images and pad them to one size that the backbone's strides divide."""
        padding: dict[str, Any] = {"size_divisibility": self.backbone.size_divisibility}
        if getattr(self.backbone, "padding_constraints", None):  # Detectron2's main has it, release 0.6 not
            padding["padding_constraints"] = self.backbone.padding_constraints
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return TaskBatch(ImageList.from_tensors(images, **padding), batched_inputs)

    def extract_features(self, batch: TaskBatch) -> dict[str, Tensor]:
        """The backbone's features, ``{name: (N, C, H / stride, W / stride)}``."""
        return self.backbone(batch.images.tensor.contiguous(memory_format=self.memory_format))

    def task_features(self, name: str, features: Features, image_sizes: Sequence[tuple[int, int]]) -> Features:
        """What the neck gives the modules of a task, in training and inference.

        Args:
            name: of the task.
            features: of the neck's ``aggregate``, for the images in question.
            image_sizes: their heights and widths in pixels, without padding.
        """
        return self.neck.adapt(features, name, image_sizes)

    def step_features(self, features: Callable[[], Features], batch: TaskBatch) -> StepFeatures:
        """What each branch reads; ``features`` gives those of the neck's ``aggregate``, called once for each task."""
        sizes = batch.images.image_sizes
        return StepFeatures(
            self.branches, self._givers, lambda name: self.task_features(name, features(), sizes), batch.images.tensor
        )
