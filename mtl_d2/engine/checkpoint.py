"""Save and load checkpoints: safely, atomically, and without a word left unsaid about what was not loaded."""

import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from ..balancing import TaskWeigher
from ..separate_networks import SeparateTaskNetworks
from .launch import unwrap
from .weights_file import WeightsError, fetch, read_checkpoint, read_torch_file, write_torch_file

logger = logging.getLogger(__name__)

# FrozenBatchNorm2d and BatchNorm2d do without them: ImageNet weights have them folded into the scale.
_OPTIONAL_BUFFERS = ("num_batches_tracked", "running_mean", "running_var")
_NETWORKS = ".networks."  # begins the keys of a checkpoint of SeparateTaskNetworks
_BACKBONE = re.compile(r"(^|\.)backbone\.")


@dataclass(frozen=True)
class LoadReport:
    """What a file of weights did to a model.

    Attributes:
        path: the file or URL that was asked for.
        loaded: how many entries of the model's state came from the file.
        reinitialised: (key, shape in the file, shape in the model): such as class-dependent layers; they kept
            their initial values.
        missing: keys of the model that the file lacks.
        unexpected: keys of the file that the model lacks.
    """

    path: str
    loaded: int
    reinitialised: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.path or 'no weights'}: {self.loaded} entries loaded"]
        lines += [
            f"  re-initialised {key}: {found} in the file, {wanted} here" for key, found, wanted in self.reinitialised
        ]
        lines += [f"  not in the file: {key}" for key in self.missing]
        lines += [f"  not in the model: {key}" for key in self.unexpected]
        return "\n".join(lines)


class MultiTaskCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, reading ``.pth`` and the zoo's ``.pkl`` without running code in them.

    Attributes:
        report: of the last :meth:`load`.
    """

    report: LoadReport = LoadReport(path="", loaded=0)
    _asked_for: str = ""

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a local file, a URL or a ``detectron2://`` name; an empty path loads nothing.

        Raises:
            WeightsError: the file is not there, or not on every rank; a URL that cannot be fetched; the file is no
                checkpoint, may run code, or does not fit the backbone.
        """
        if not path:
            self.report = LoadReport(path="", loaded=0)
            logger.info("No weights given: the model starts from its initial values.")
            return {}
        local = fetch(path)
        on_ranks = comm.all_gather(os.path.isfile(local))
        if not all(on_ranks):
            ranks = [rank for rank, found in enumerate(on_ranks) if not found]
            raise WeightsError(
                f"{path} is not on the machine of rank {ranks}: expected a checkpoint that every process "
                "can read; check MODEL.WEIGHTS (or OUTPUT_DIR, with --resume)."
            )
        self._asked_for = path
        extra = super().load(local, checkpointables)
        logger.info("%s", self.report)
        return extra

    def last_file(self) -> str:
        """The last checkpoint in ``save_dir``, "" if there is none; every rank calls it.

        Raises:
            WeightsError: the ranks do not see the same one: some would go on from it, and others start anew.
        """
        found = comm.all_gather(self.get_checkpoint_file() if self.has_checkpoint() else "")
        if len(set(found)) > 1:
            seen = ", ".join(f"rank {rank} {name or 'none'}" for rank, name in enumerate(found))
            raise WeightsError(
                f"--resume: the processes do not see one last checkpoint in OUTPUT_DIR {self.save_dir}, but {seen}: "
                "give a folder that all machines share, or copy it to each of them."
            )
        return found[0]

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint in ``save_dir``, if ``resume`` and there is one; else load ``path``.

        Raises:
            WeightsError: the last checkpoint is not there on every rank, or is that of another network, of another
                optimizer, or of a run with an average of its weights and this one has none.
        """
        last = self.last_file() if resume else ""
        if not last:
            return self.load(path, checkpointables=[])
        extra = self.load(last, checkpointables=[])
        report = self.report
        if report.reinitialised or report.missing or report.unexpected:
            raise self._cannot_go_on(report)
        if "raw_model" in extra and "trainer" in self.checkpointables and "raw_model" not in self.checkpointables:
            raise WeightsError(
                f"{report.path} is of a run with SOLVER.MTL.EMA.ENABLED True: set it, for --resume to go on with the "
                f"weights that were trained, or start another run from their average with MODEL.WEIGHTS {report.path}."
            )
        for key, checkpointable in self.checkpointables.items():
            if key in extra:
                try:
                    checkpointable.load_state_dict(extra.pop(key))
                except ValueError as error:
                    raise self._cannot_go_on(error) from error
        return extra

    def _cannot_go_on(self, reason: object) -> WeightsError:
        path = self.report.path
        return WeightsError(
            f"{reason} -- so --resume cannot go on from {path}: use the config that it was trained with "
            f"({os.path.join(self.save_dir, 'config.yaml')}), or another OUTPUT_DIR with MODEL.WEIGHTS {path}."
        )

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth``, whole or not at all, and tag it as the last checkpoint.

        Raises:
            FloatingPointError: the weights are not finite, so that a diverged run keeps its last good
                checkpoint.
        """
        if self.save_dir and self.save_to_disk:
            states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
            self._write(name, {**states, **kwargs})
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` with the model and ``kwargs`` alone; ``--resume`` does not go on from it."""
        if self.save_dir and self.save_to_disk:
            self._write(name, kwargs)

    def read_figure(self, name: str) -> dict[str, Any] | None:
        """Return the ``figure`` that :meth:`save_weights` put into ``<name>.pth``; None without that file."""
        path = os.path.join(self.save_dir, f"{name}.pth")
        return read_torch_file(path).get("figure") if os.path.isfile(path) else None

    def _write(self, name: str, states: dict[str, Any]) -> None:
        for key, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise FloatingPointError(f"{key} became infinite or NaN: {name}.pth is not written.")
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        write_torch_file(path, {"model": self.model.state_dict(), **states})

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_checkpoint(filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        model = unwrap(self.model)
        if isinstance(model, SeparateTaskNetworks) and not any(_NETWORKS in f".{key}" for key in checkpoint["model"]):
            self.report = self._load_each_network(model, checkpoint)
            return None
        for name, module in model.named_modules():
            if isinstance(module, TaskWeigher):  # rows of more or fewer tasks would be left out by their shape
                module.match_rows(checkpoint["model"], f"{name}.")
        by_suffix = bool(checkpoint.get("matching_heuristics", False))
        found = super()._load_model(checkpoint)
        missing, shapes = list(found.missing_keys), list(found.incorrect_shapes)
        lacking = {*missing, *(key for key, _, _ in shapes)}
        self.report = LoadReport(
            path=self._asked_for,
            loaded=len(set(self.model.state_dict()) - lacking),
            reinitialised=shapes,
            missing=missing,
            unexpected=list(found.unexpected_keys),
        )
        self._check_backbone(lacking, bottom_up_only=by_suffix)
        return None  # fvcore's own log of the same is not needed

    def _load_each_network(self, model: SeparateTaskNetworks, checkpoint: dict[str, Any]) -> LoadReport:
        """Load the weights of one network, such as a joint or a pretrained one, into each network of the model."""
        reports: dict[str, LoadReport] = {}
        for task, network in model.networks.items():
            checkpointer = MultiTaskCheckpointer(network)
            checkpointer._asked_for = self._asked_for
            checkpointer._load_model({**checkpoint, "model": dict(checkpoint["model"])})
            reports[f"networks.{task}."] = checkpointer.report
        used_by_none = set.intersection(*(set(report.unexpected) for report in reports.values()))
        return LoadReport(
            path=self._asked_for,
            loaded=sum(report.loaded for report in reports.values()),
            reinitialised=[(at + key, a, b) for at, report in reports.items() for key, a, b in report.reinitialised],
            missing=[at + key for at, report in reports.items() for key in report.missing],
            unexpected=sorted(used_by_none),
        )

    def _check_backbone(self, lacking: set[str], *, bottom_up_only: bool) -> None:
        """A backbone that stays at random values is the error that costs most and shows least."""
        keys = [key for key in self.model.state_dict() if _BACKBONE.search(key) and not key.endswith(_OPTIONAL_BUFFERS)]
        if bottom_up_only:  # ImageNet weights know nothing of an FPN
            keys = [key for key in keys if ".bottom_up." in key] or keys
        absent = [key for key in keys if key in lacking]
        if absent:
            example = next((k for k in self.report.unexpected), "")
            raise WeightsError(
                f"{self.report.path} does not fit the backbone: {len(absent)} of its {len(keys)} entries "
                f"were not loaded, such as {absent[0]!r}"
                + (f" (the file has keys such as {example!r})" if example else "")
                + ". Set MODEL.WEIGHTS to weights of this architecture (see MODEL.RESNETS and MODEL.FPN), "
                "or to '' to train from scratch."
            )


def load_weights(model: nn.Module, path: str) -> LoadReport:
    """Load weights alone into a model; see :meth:`MultiTaskCheckpointer.load` for paths and errors."""
    checkpointer = MultiTaskCheckpointer(model)
    checkpointer.load(path, checkpointables=[])
    return checkpointer.report


def load_for_evaluation(model: nn.Module, weights: str, output_dir: str, *, resume: bool) -> dict[str, Any]:
    """Load ``weights``, or with ``resume`` the last checkpoint in ``output_dir``; return what else is in the file.

    Raises:
        WeightsError: there is no last checkpoint, or no name of one: initial weights are not what was asked for; see
            :meth:`MultiTaskCheckpointer.resume_or_load` for others.
    """
    checkpointer = MultiTaskCheckpointer(model, output_dir)
    if resume and not checkpointer.last_file():
        raise WeightsError(
            f"--eval-only --resume scores the last checkpoint in {output_dir}, where there is none (of stages there is "
            "one when the last is done): name the OUTPUT_DIR of a training, or MODEL.WEIGHTS without --resume."
        )
    if not resume and not weights:
        raise WeightsError(
            "--eval-only scores MODEL.WEIGHTS (train.init_checkpoint of a LazyConfig), which is empty: name a "
            "checkpoint, or say --resume for the last one of the run."
        )
    return checkpointer.resume_or_load(weights, resume=resume)
