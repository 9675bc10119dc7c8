import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_api

from mtl_d2.evaluation import EdgeEvaluator, EdgeOptions
from mtl_d2.evaluation.edge import score_record
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges, has_edge_label
from mtl_d2.tasks.edge import EdgeBranch, score_options
from mtl_d2.testing import tiny_cfg

SIZE = (16, 20)
CRISP = EdgeOptions(nms=False, thin=False)
ONE = EdgeOptions(nms=False, thresholds=1)
BOX = [4, 3, 12, 10]  # x0, y0, x1, y1 of the only object


def box_mask() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    return mask


def box_edges() -> np.ndarray:
    edges = np.zeros(SIZE, np.uint8)
    edges[3:10, [3, 11]] = 1
    edges[[2, 9], 4:12] = 1
    edges[[2, 9, 9], [11, 11, 3]] = 0  # corners that thinning takes away
    return edges


def record(segmentation, **changes) -> dict:
    annotation = {"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "segmentation": segmentation}
    base = {"file_name": "a.png", "image_id": 1, "height": SIZE[0], "width": SIZE[1]}
    return base | {"annotations": [annotation], "edge_source": "instance"} | changes


def rle(mask: np.ndarray) -> dict:
    return mask_api.encode(np.asfortranarray(mask))


def uncompressed_rle(mask: np.ndarray) -> dict:
    flat = mask.T.reshape(-1)
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], bounds, [flat.size]])).tolist()}


POLYGON = [[4, 3, 12, 3, 12, 10, 4, 10]]


@pytest.mark.parametrize("segmentation", [POLYGON, rle(box_mask()), uncompressed_rle(box_mask()), box_mask()])
def test_instance_edges_from_every_kind_of_mask(segmentation):
    assert (ground_truth_edges(record(segmentation)) == box_edges()).all()


def test_crowd_is_ignored_where_no_instance_covers_it():
    crowd = np.zeros(SIZE, np.uint8)
    crowd[:, 10:] = 1
    annotations = record(POLYGON)["annotations"]
    annotations = [*annotations, annotations[0] | {"segmentation": rle(crowd), "iscrowd": 1}]
    edges = ground_truth_edges(record(POLYGON, annotations=annotations))
    assert (edges[:, 12:] == 255).all()
    assert (edges[:, :9] == box_edges()[:, :9]).all()
    assert edges[5, 10] == 0 and edges[5, 11] == 255


def test_semantic_and_union_edges(tmp_path):
    sem_seg = np.zeros(SIZE, np.uint8)
    sem_seg[8:] = 7
    sem_seg[:, 18:] = 255
    sem_seg[4, 5] = 255
    Image.fromarray(sem_seg).save(tmp_path / "sem.png")
    labels = {"sem_seg_file_name": str(tmp_path / "sem.png")}
    semantic = ground_truth_edges(record(POLYGON, edge_source="semantic", **labels))
    assert (semantic[7, :18] == 1).all() and (semantic[:, 18:] == 255).all()
    assert semantic[4, 5] == 255 and semantic[3, 5] == 255 and (semantic == 1).sum() == 18
    union = ground_truth_edges(record(POLYGON, edge_source="union", **labels))
    assert (union[4:7, [3, 11]] == 1).all() and (union[2, 5:11] == 1).all()
    assert union[4, 5] == 0  # void in the semantic map, but inside the instance


def test_given_edge_file_is_read(tmp_path):
    Image.fromarray(box_edges() * 255).save(tmp_path / "edge.png")
    given = record(POLYGON, edge_file_name=str(tmp_path / "edge.png"))
    assert (ground_truth_edges(given) == box_edges()).all()
    with pytest.raises(ValueError, match="edge.png"):
        ground_truth_edges(given | {"height": 17})


def test_no_instance_is_labelled_and_no_source_is_not():
    assert not ground_truth_edges(record(POLYGON, annotations=[])).any()
    assert not has_edge_label({"file_name": "a.png"})
    assert not has_edge_label({"edge_source": "none"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_source": "edges"}, "instance, semantic, union"),
        ({"edge_source": "semantic"}, "sem_seg_file_name"),
        ({"annotations": [{"bbox": BOX}]}, "segmentation"),
        ({"height": 17, "annotations": [{"segmentation": rle(box_mask())}]}, "RLE"),
    ],
)
def test_bad_records_are_named(changes, message):
    with pytest.raises(ValueError, match=f"a.png.*{message}"):
        ground_truth_edges(record(POLYGON, **changes))


@pytest.fixture
def dataset():
    unlabelled = {"file_name": "c.png", "image_id": 3, "height": SIZE[0], "width": SIZE[1]}
    records = [record(POLYGON), record(POLYGON) | {"file_name": "b.png", "image_id": 2}, unlabelled]
    DatasetCatalog.register("edge_test", lambda: records)
    yield records
    DatasetCatalog.remove("edge_test")
    MetadataCatalog.remove("edge_test")


def run(evaluator: EdgeEvaluator, records: list[dict], edge: torch.Tensor) -> dict:
    evaluator.reset()
    for dataset_dict in records:
        evaluator.process([dataset_dict], [{"edge": edge}])
    return evaluator.evaluate()


@pytest.mark.parametrize("workers", [0, 2])
def test_perfect_edges_score_one_on_labelled_images_alone(dataset, tmp_path, workers):
    evaluator = EdgeEvaluator("edge_test", output_dir=tmp_path, workers=workers, options=CRISP)
    for _ in range(2):  # an evaluator is used again at the next evaluation
        results = run(evaluator, dataset, torch.from_numpy(box_edges()).float())
        assert results["edge"]["ODS"] == pytest.approx(1) and results["edge"]["OIS"] == pytest.approx(1)
        assert set(results["edge"]) == {"ODS", "OIS", "AP", "R50", "ODS_threshold", "ODS_half", "ODS_crisp"}
        assert evaluator.num_images == 2
    saved = np.load(tmp_path / "edge_counts.npz")
    assert saved["file_names"].tolist() == ["a.png", "b.png"] and saved["counts"].shape == (2, 99, 4)
    curve = json.loads((tmp_path / "edge_pr.json").read_text())
    assert curve["dataset"] == "edge_test"
    assert curve["threshold"] == pytest.approx(np.arange(1, 100) / 100)
    assert curve["precision"] == curve["recall"] == curve["f"] == [1] * 99


def test_written_curve_reaches_the_ods_of_the_report_and_no_more(dataset, tmp_path):
    noise = torch.rand(SIZE, generator=torch.Generator().manual_seed(1))
    soft = 0.6 * torch.from_numpy(box_edges()).float() + 0.4 * noise
    results = run(
        EdgeEvaluator("edge_test", output_dir=tmp_path, workers=0, options=EdgeOptions(max_dist=0.05)), dataset, soft
    )["edge"]
    curve = json.loads((tmp_path / "edge_pr.json").read_text())
    assert (curve["ODS"], curve["ODS_threshold"]) == (results["ODS"], results["ODS_threshold"])
    precision, recall = np.array(curve["precision"]), np.array(curve["recall"])
    assert curve["f"] == pytest.approx(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    p, r = (np.interp(results["ODS_threshold"], curve["threshold"], x) for x in (precision, recall))
    assert 2 * p * r / (p + r) == pytest.approx(results["ODS"], abs=1e-12)
    assert 0.5 < max(curve["f"]) <= results["ODS"] < 1


def test_no_image_leaves_null_for_a_curve(dataset, tmp_path):
    run(EdgeEvaluator("edge_test", output_dir=tmp_path, workers=0), dataset[2:], torch.zeros(SIZE))
    curve = json.loads((tmp_path / "edge_pr.json").read_text())
    assert [curve[key] for key in ("ODS", "ODS_threshold", "precision", "recall", "f")] == [None] * 5


def test_processes_score_as_this_process_does(dataset):
    edge = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    scores = [run(EdgeEvaluator("edge_test", workers=workers), dataset, edge) for workers in (0, 2)]
    assert scores[0] == scores[1]


def test_no_labelled_image_is_not_a_score(dataset):
    evaluator = EdgeEvaluator("edge_test", workers=0)
    assert np.isnan(run(evaluator, dataset[2:], torch.zeros(SIZE))["edge"]["ODS"])
    assert evaluator.num_images == 0


def test_bad_output_is_named(dataset):
    evaluator = EdgeEvaluator("edge_test", workers=0)
    for edge, message in [(torch.zeros(3, 3), "size"), (torch.full(SIZE, torch.nan), "NaN")]:
        with pytest.raises(ValueError, match=f"a.png.*{message}"):
            evaluator.process(dataset[:1], [{"edge": edge}])
    with pytest.raises(ValueError, match="no 'edge'"):
        evaluator.process(dataset[:1], [{}])


def test_error_in_a_scoring_process_reaches_the_caller(dataset):
    dataset[0]["edge_source"] = "semantic"
    with pytest.raises(ValueError, match="sem_seg_file_name"):
        run(EdgeEvaluator("edge_test", workers=1), dataset, torch.zeros(SIZE))


def test_each_annotator_is_matched_and_recall_sums_over_them(tmp_path):
    prob = np.zeros(SIZE, np.float32)
    prob[4, 2:18] = 1
    names = []
    for i, row in enumerate((4, 4, 12)):
        edge = np.zeros(SIZE, np.uint8)
        edge[row, 2:18] = 255
        names.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(edge).save(names[-1])
    drawn = record(POLYGON, edge_file_name=names)
    counts = score_record(drawn, prob, ignore_label=255, options=ONE)["benchmark"]
    assert counts.tolist() == [[16, 16, 32, 48]]  # all of the prediction is right, two of three annotators are met
    one = score_record(record(POLYGON, edge_file_name=names[2]), prob, ignore_label=255, options=ONE)["benchmark"]
    assert one.tolist() == [[0, 16, 0, 16]]
    label = ground_truth_edges(drawn)
    assert (label[4, 2:18] == 1).all() and (label[12, 2:18] == 255).all() and (label > 0).sum() == 32


def test_config_says_how_edges_are_scored_and_a_wrong_value_is_told_before_the_training(dataset):
    cfg = tiny_cfg()
    scores = cfg.TEST.MTL.EDGE
    scores.MAX_DIST, scores.HALF_TOLERANCE, scores.THRESHOLDS = 0.05, True, 9
    options = EdgeOptions(max_dist=0.05, crisp=False, thresholds=9)
    edge = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    results = run(EdgeBranch.build_evaluator(cfg, "edge_test", None), dataset, edge)
    assert results == run(EdgeEvaluator("edge_test", options=options, workers=0), dataset, edge)
    assert "ODS_crisp" not in results["edge"] and "ODS_half" in results["edge"]
    cfg.TEST.MTL.EDGE.MAX_DIST = 3.0
    with pytest.raises(ValueError, match=r"TEST\.MTL\.EDGE: max_dist .* found 3\.0"):
        build_model(cfg)


def test_defaults_of_the_config_are_the_benchmarks():
    assert score_options(tiny_cfg()) == EdgeOptions(half_tolerance=False, crisp=False)
