import json

import numpy as np
import pytest

from mtl_d2.visualization.pr_curves import average_precision, draw_pr_curves, find_curves, lowest_classes, ods_point

RECALL = [i / 100 for i in range(101)]


def _instances(classes):
    """Curves of constant precision by class; None for a class without ground truth."""
    lists = {name: None if value is None else [value] * 101 for name, value in classes.items()}
    mean = [float(np.mean([value for value in classes.values() if value is not None]))] * 101
    return {f"IoU={iou}": {"mean": mean, "classes": lists} for iou in ("0.50", "0.75")}


def _edge():
    # Between the thresholds .25 and .5, P + R stays 1.5: F is best halfway, .75.
    threshold, precision, recall = [0.25, 0.5, 0.75], [0.5, 1.0, 0.0], [1.0, 0.5, 0.0]
    f = [2 / 3, 2 / 3, 0.0]
    return {
        **{"threshold": threshold, "precision": precision, "recall": recall},
        **{"f": f, "ODS": 0.75, "ODS_threshold": 0.375},
    }


def _write(folder, dataset, name, content):
    path = folder / "inference" / dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset": dataset, **content}))
    return path


def _axes(figure):
    return {axes.get_title(loc="left").split(":")[0]: axes for axes in figure.get_axes()}


def test_curves_are_found_by_dataset(tmp_path):
    instances = {"recall": RECALL, "bbox": _instances({"a": 0.5})}
    _write(tmp_path, "val", "instance_pr.json", instances)
    _write(tmp_path, "val", "edge_pr.json", _edge())
    _write(tmp_path, "other", "edge_pr.json", _edge())
    (tmp_path / "edge_pr.json").write_text(json.dumps({"dataset": "itself", **_edge()}))
    assert find_curves(tmp_path) == {
        "val": {**instances, "edge": _edge()},
        "other": {"edge": _edge()},
        "itself": {"edge": _edge()},
    }
    assert find_curves(tmp_path / "nowhere") == {}


def test_curves_of_no_image_are_left_out(tmp_path):
    nothing = {iou: {"mean": None, "classes": {"a": None}} for iou in ("IoU=0.50", "IoU=0.75")}
    _write(tmp_path, "val", "instance_pr.json", {"recall": RECALL, "bbox": nothing})
    _write(tmp_path, "val", "edge_pr.json", {**_edge(), "ODS": None})
    assert find_curves(tmp_path) == {}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"dataset": "val", "threshold": []}'])
def test_spoilt_file_is_named(tmp_path, content):
    path = _write(tmp_path, "val", "edge_pr.json", {})
    path.write_text(content)
    with pytest.raises(ValueError, match=r"edge_pr\.json: no precision-recall curves"):
        find_curves(tmp_path)


def test_edge_chart_has_the_curve_lines_of_equal_f_and_the_point_of_the_ods():
    axes = _axes(draw_pr_curves({"a": {"edge": _edge()}, "b": {}}, "val"))["Edges"]
    *iso, curve, point = axes.get_lines()
    for line, f in zip(iso, np.arange(1, 10) / 10, strict=True):
        recall, precision = line.get_xdata(), line.get_ydata()
        assert 2 * precision * recall / (precision + recall) == pytest.approx(np.full(len(recall), f))
        assert precision[0] == pytest.approx(1) and recall[-1] == 1
    # The last threshold, which no pixel passes, is no point of the curve.
    assert curve.get_xdata().tolist() == [1, 0.5] and curve.get_ydata().tolist() == [0.5, 1]
    assert ods_point(_edge()) == pytest.approx((0.75, 0.75))
    assert (point.get_xdata()[0], point.get_ydata()[0]) == ods_point(_edge())
    assert "ODS 0.750 at 0.38" in axes.get_legend().get_texts()[0].get_text()


def test_legend_says_the_figures_that_the_curves_integrate_to():
    curves = {"recall": RECALL, "segm": _instances({"a": 0.25, "b": 0.75})}
    axes = _axes(draw_pr_curves({"run": curves}, "val"))["Masks"]
    assert average_precision(curves["segm"]["IoU=0.50"]["mean"]) == pytest.approx(50)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["run: AP50 50.0", "run: AP75 50.0"]


def test_single_run_shows_its_weakest_classes():
    classes = {**{f"c{i}": 1 - i / 100 for i in range(20)}, "absent": None}
    curves = {"recall": RECALL, "bbox": _instances(classes)}
    assert lowest_classes(curves) == [f"c{i}" for i in range(19, 12, -1)]
    (axes,) = (a for t, a in _axes(draw_pr_curves({"run": curves}, "val")).items() if "IoU 0.50" in t)
    assert "7 of 20 classes" in axes.get_title(loc="left")
    assert [line.get_ydata()[0] for line in axes.get_lines()] == pytest.approx([0.81 + i / 100 for i in range(7)])
    assert "Boxes at IoU 0.50" not in _axes(draw_pr_curves({"run": curves, "again": curves}, "val"))


def test_run_keeps_its_colour_where_another_has_no_curves():
    blue = _axes(draw_pr_curves({"a": {"edge": _edge()}}, "val"))["Edges"].get_lines()[-1].get_color()
    orange = _axes(draw_pr_curves({"x": {}, "a": {"edge": _edge()}}, "val"))["Edges"].get_lines()[-1].get_color()
    assert blue != orange
