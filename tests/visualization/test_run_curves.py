import numpy as np
import pytest

from mtl_d2.visualization.charts import line_style, run_names
from mtl_d2.visualization.run_curves import chart_groups, draw_run_curves, running_mean


def _series(values):
    return np.arange(len(values)) * 20 + 19, np.array(values, dtype=float)


def _charts(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.get_axes() if axes.get_title(loc="left")}


def _lines(axes):
    return [(line.get_color(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.get_lines()]


def test_each_run_is_drawn_with_its_values_in_its_colour():
    first = {"loss_cls": _series([3, 2, 1]), "bbox/AP50": _series([10, 20]), "rpn/num_pos_anchors": _series([1])}
    second = {"loss_cls": _series([5, 4]), "lr": _series([0.1])}
    charts = _charts(draw_run_curves({"a": first, "b": second}))
    blue, orange = line_style(0)["color"], line_style(1)["color"]
    assert charts.keys() == {"loss_cls", "lr", "bbox/AP50"}
    assert _lines(charts["loss_cls"]) == [(blue, [19, 39, 59], [3, 2, 1]), (orange, [19, 39], [5, 4])]
    assert _lines(charts["lr"]) == [(orange, [19], [0.1])] and _lines(charts["bbox/AP50"])[0][0] == blue


def test_groups_hold_what_the_trainer_writes_and_scores_of_several_test_sets():
    names = {"task/edge", "total_loss", "loss_cls", "balance/edge", "lr", "time", "rpn/x", "bbox/AP", "edge/ODS"}
    names |= {"val_b/segm/AP50", "val_a/segm/AP50", "lr/edge", "cosine/edge/sem_seg"}
    assert list(chart_groups(names).values()) == [
        ["task/edge"],
        ["total_loss", "loss_cls"],
        ["balance/edge", "lr", "lr/edge"],
        ["cosine/edge/sem_seg"],
        ["val_a/segm/AP50", "val_b/segm/AP50", "edge/ODS"],
    ]
    assert chart_groups(names, ["bbox/AP"])["Scores"] == ["bbox/AP"]


def test_axes_have_labels_with_their_units():
    runs = {"a": {name: _series([1, 2]) for name in ("loss_cls", "lr", "balance/edge", "val/bbox/AP50", "edge/ODS")}}
    charts = _charts(draw_run_curves(runs))
    assert {name: axes.get_ylabel() for name, axes in charts.items()} == {
        "loss_cls": "loss",
        "lr": "learning rate",
        "balance/edge": "weight",
        "val/bbox/AP50": "AP50 (%)",
        "edge/ODS": "ODS (0 to 1)",
    }
    assert {axes.get_xlabel() for axes in charts.values()} == {"iteration"}


def test_nan_is_a_gap_and_a_loss_of_nan_alone_is_said_to_be_so():
    runs = {"a": {"loss_a": _series([1, np.nan, 3]), "loss_b": _series([np.nan, np.nan])}}
    charts = _charts(draw_run_curves(runs))
    assert np.isnan(charts["loss_a"].get_lines()[0].get_ydata()[1])
    assert [text.get_text() for text in charts["loss_b"].texts] == ["not finite (NaN)"]


def test_runs_with_nothing_to_draw_are_refused():
    with pytest.raises(ValueError, match="no loss and no score.*time"):
        draw_run_curves({"a": {"time": _series([1])}, "b": {}})


def test_running_mean_by_hand():
    values = np.array([1, 3, np.nan, 5, np.nan, np.nan, np.nan])
    assert running_mean(values, 1) == pytest.approx([2, 2, 4, 5, 5, np.nan, np.nan], nan_ok=True)


def test_names_are_the_shortest_that_tell_the_runs_apart(tmp_path):
    a, b = tmp_path / "a/seed1", tmp_path / "b/seed1"
    assert run_names([a, b]) == {"a/seed1": a, "b/seed1": b}
    assert run_names([a, a, tmp_path / "x/../a/seed1"]) == {"seed1": a}


def test_first_28_runs_look_different():
    assert len({tuple(line_style(i).values()) for i in range(28)}) == 28
