"""Detectron2 evaluator of edge maps."""

import json
import logging
import os
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from .edge_checks import check_prob
from .edge_counts import BENCHMARK, image_counts
from .edge_ground_truth import Record, annotator_edges, has_edge_label
from .edge_options import EdgeOptions
from .edge_pool import ScoringPool, default_workers
from .edge_scores import EdgeScores
from .edge_sets import Counts, EdgeSet
from .per_image import EdgeCounts

logger = logging.getLogger(__name__)


class EdgeEvaluator(DatasetEvaluator):
    """ODS, OIS, AP and R50 of ``output["edge"]``, an (H, W) map in [0, 1] in the size of the record.

    Images without an edge label are left out. Images are scored in other processes while inference goes on.

    Args:
        dataset_name: registered name; ground truth is read from its records (see ``annotator_edges``).
        output_dir: where the first rank writes ``edge_counts.npz`` (file names, and (N, T, 4) counts as
            ``edge_counts`` returns them) and ``edge_pr.json`` (threshold, precision, recall and F, with the ODS
            and its threshold); None writes nothing.
        options: how to score; None for the benchmark's way, with the half-tolerance and the crisp score beside it.
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
        options: EdgeOptions | None = None,
        workers: int | None = None,
        per_image: bool = False,
    ):
        self.num_images = 0
        self.scores: EdgeScores | None = None
        self._dataset_name = dataset_name
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._options = options or EdgeOptions()
        self._per_image = per_image
        ignore_label = MetadataCatalog.get(dataset_name).get("ignore_label", 255)
        self._score = partial(score_record, ignore_label=ignore_label, options=self._options)
        self._records: dict[str, Record] | None = None
        self._workers = default_workers(comm.get_local_size()) if workers is None else workers
        self._pool = ScoringPool(self._workers)

    def reset(self) -> None:
        self._pool.close()
        self._pool = ScoringPool(self._workers)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if self._records is None:
            records = DatasetCatalog.get(self._dataset_name)
            self._records = {record["file_name"]: record for record in records if has_edge_label(record)}
        for dataset_dict, output in zip(inputs, outputs, strict=True):
            record = self._records.get(dataset_dict["file_name"])
            if record is not None:
                self._pool.submit(record["file_name"], self._score, record, _edge_map(record, output))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Results on the first rank (see ``EdgeSet.metrics``), an empty dict on the others."""
        gathered = comm.gather(self._pool.finish())
        if not comm.is_main_process():
            return {}
        # By file name: an image that two ranks saw counts once.
        found = {name: value for part in gathered for name, value in part.items()}
        counts = {name: found[name] for name in sorted(found)}
        self.num_images = len(counts)
        if not counts:
            logger.warning("No image of %s that was evaluated has an edge label.", self._dataset_name)
        scored = EdgeSet.of(counts, self._options)
        self.scores = scored.scores
        if self._output_dir is not None:
            self._save(self._output_dir, scored)
        return OrderedDict(edge=scored.metrics())

    def _save(self, output_dir: Path, scored: EdgeSet) -> None:
        output_dir.mkdir(parents=True, exist_ok=True)
        names, counts = np.array(scored.names, dtype=str), scored.counts[BENCHMARK]
        np.savez_compressed(output_dir / "edge_counts.npz", file_names=names, counts=counts)
        (output_dir / "edge_pr.json").write_text(json.dumps(scored.scores.as_curve(self._dataset_name)))
        if self._per_image:
            EdgeCounts(scored.names, counts).write(output_dir, "edge")


def score_record(record: Record, prob: np.ndarray, *, ignore_label: int, options: EdgeOptions) -> Counts:
    """``image_counts`` of one image against the ground truth of its record."""
    edges = annotator_edges(record, ignore_label)
    return image_counts(prob, [edge == 1 for edge in edges], edges[0] == 255, options, name=str(record["file_name"]))


def _edge_map(record: Record, output: dict) -> np.ndarray:
    name = record["file_name"]
    if "edge" not in output:
        raise ValueError(f"The model's output for {name} has no 'edge': ask for the task, or drop EdgeEvaluator.")
    prob = output["edge"]
    if isinstance(prob, torch.Tensor):
        prob = prob.detach().float().cpu().numpy()
    check_prob(prob, (record["height"], record["width"]), name)
    return prob
