"""Detectron2 evaluator of edge maps."""

import json
import logging
import multiprocessing
import os
import sys
from collections import OrderedDict
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tqdm import tqdm

from .edge_ground_truth import Record, annotator_edges, has_edge_label
from .edge_scores import EdgeScores, check_prob, edge_counts, edge_scores
from .per_image import EdgeCounts

_BACKLOG = 4  # images waiting for each scoring process, before inference has to wait

logger = logging.getLogger(__name__)


class EdgeEvaluator(DatasetEvaluator):
    """ODS, OIS and AP of ``output["edge"]``, an (H, W) map in [0, 1] in the size of the record.

    Images without an edge label are left out. Images are scored in other processes while inference goes on.

    Args:
        dataset_name: registered name; ground truth is read from its records (see ``annotator_edges``).
        output_dir: where the first rank writes ``edge_counts.npz`` (file names, and (N, T, 4) counts as
            ``edge_counts`` returns them) and ``edge_pr.json`` (threshold, precision, recall and F, with the ODS
            and its threshold); None writes nothing.
        max_dist: matching radius as a fraction of the image diagonal.
        nms: whether to apply non-maximum suppression first.
        thin: whether to thin each binary map; ``nms=False, thin=False`` scores crispness.
        thresholds: number of thresholds.
        workers: scoring processes of each rank; None shares the cores among the ranks, 0 scores in this
            process.
        per_image: write the counts in the form of the other evaluators too (see ``PerImage``).

    After ``evaluate`` on the first rank ``num_images`` is the number of images that were scored, and
    ``scores`` has the precision and recall curves.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | os.PathLike | None = None,
        max_dist: float = 0.0075,
        nms: bool = True,
        thin: bool = True,
        thresholds: int = 99,
        workers: int | None = None,
        per_image: bool = False,
    ):
        self.num_images = 0
        self.scores: EdgeScores | None = None
        self._dataset_name = dataset_name
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._workers = _default_workers() if workers is None else workers
        self._thresholds = thresholds
        self._per_image = per_image
        ignore_label = MetadataCatalog.get(dataset_name).get("ignore_label", 255)
        self._score = partial(
            score_record,
            ignore_label=ignore_label,
            max_dist=max_dist,
            nms=nms,
            thin=thin,
            thresholds=thresholds,
        )
        self._records: dict[str, Record] | None = None
        self._pool: ProcessPoolExecutor | None = None
        self.reset()

    def reset(self) -> None:
        self._close_pool()
        self._counts: dict[str, np.ndarray] = {}
        self._pending: dict[Future, str] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if self._records is None:
            records = DatasetCatalog.get(self._dataset_name)
            self._records = {record["file_name"]: record for record in records if has_edge_label(record)}
        for dataset_dict, output in zip(inputs, outputs, strict=True):
            record = self._records.get(dataset_dict["file_name"])
            if record is not None:
                self._submit(record, _edge_map(record, output))

    def _submit(self, record: Record, prob: np.ndarray) -> None:
        file_name = record["file_name"]
        if self._workers == 0:
            self._counts[file_name] = self._score(record, prob)
            return
        if self._pool is None:
            self._pool = _start_pool(self._workers)
        self._pending[self._pool.submit(self._score, record, prob)] = file_name
        while len(self._pending) > _BACKLOG * self._workers:
            self._collect(wait(self._pending, return_when=FIRST_COMPLETED).done)

    def _collect(self, done: set[Future]) -> None:
        for future in done:
            file_name = self._pending.pop(future)
            self._counts[file_name] = future.result()

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Results on the first rank, an empty dict on the others."""
        self._finish()
        gathered = comm.gather(self._counts, dst=0)
        if not comm.is_main_process():
            return {}
        # By file name: an image that two ranks saw counts once.
        counts = {name: value for part in gathered for name, value in part.items()}
        self.num_images = len(counts)
        if not counts:
            logger.warning("No image of %s that was evaluated has an edge label.", self._dataset_name)
        names = sorted(counts)
        stacked = np.array([counts[name] for name in names]).reshape(len(names), self._thresholds, 4)
        self.scores = edge_scores(stacked)
        if self._output_dir is not None:
            _save(self._output_dir, names, stacked)
            _save_curve(self._output_dir, self._dataset_name, self.scores)
            if self._per_image:
                EdgeCounts(tuple(names), stacked).write(self._output_dir, "edge")
        results = {
            "ODS": self.scores.ODS,
            "OIS": self.scores.OIS,
            "AP": self.scores.AP,
            "ODS_threshold": self.scores.ods_threshold,
        }
        return OrderedDict(edge=results)

    def _finish(self) -> None:
        try:
            with tqdm(total=len(self._pending), desc="edge scores", disable=None, leave=False) as progress:
                while self._pending:
                    done = wait(self._pending, return_when=FIRST_COMPLETED).done
                    self._collect(done)
                    progress.update(len(done))
        finally:
            self._close_pool()

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def score_record(record: Record, prob: np.ndarray, *, ignore_label: int, **options: Any) -> np.ndarray:
    """``edge_counts`` of one image against the ground truth of its record."""
    edges = annotator_edges(record, ignore_label)
    return edge_counts(prob, [edge == 1 for edge in edges], edges[0] == 255, **options)


def _edge_map(record: Record, output: dict) -> np.ndarray:
    name = record["file_name"]
    if "edge" not in output:
        raise ValueError(f"The model's output for {name} has no 'edge': ask for the task, or drop EdgeEvaluator.")
    prob = output["edge"]
    if isinstance(prob, torch.Tensor):
        prob = prob.detach().float().cpu().numpy()
    check_prob(prob, (record["height"], record["width"]), name)
    return prob


def _default_workers() -> int:
    if multiprocessing.current_process().daemon:  # may not have children
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // comm.get_local_size())


def _start_pool(workers: int) -> ProcessPoolExecutor:
    # Forked, as PyTorch's data loader workers are: a spawned process would import torch, and the caller's
    # script, which takes seconds. What runs there is numpy and scipy, without threads and without CUDA.
    # Elsewhere than on Linux a fork is not safe.
    method = "fork" if sys.platform == "linux" else "spawn"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


def _save(output_dir: Path, names: list[str], counts: np.ndarray) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output_dir / "edge_counts.npz", file_names=np.array(names, dtype=str), counts=counts)


def _save_curve(output_dir: Path, dataset_name: str, scores: EdgeScores) -> None:
    """Without an image there is no curve: null, since NaN is no JSON."""
    defined = not np.isnan(scores.ODS)
    curve = {"precision": scores.precision, "recall": scores.recall, "f": scores.f_measure}
    content = {
        "dataset": dataset_name,
        "threshold": scores.thresholds.tolist(),
        **{key: values.tolist() if defined else None for key, values in curve.items()},
        "ODS": scores.ODS if defined else None,
        "ODS_threshold": scores.ods_threshold if defined else None,
    }
    (output_dir / "edge_pr.json").write_text(json.dumps(content))
