import json
import logging

import numpy as np
import pytest

from mtl_d2.visualization.metrics_file import read_metrics


@pytest.fixture
def write(tmp_path):
    def _write(*lines):
        path = tmp_path / "metrics.json"
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return path

    return _write


def _points(series):
    iterations, values = series
    return list(zip(iterations.tolist(), values.tolist(), strict=True))


def test_series_are_those_of_the_file_whatever_the_order_of_its_lines(write):
    path = write(
        {"iteration": 19, "loss_cls": 1.5, "lr": 0.1},
        {"iteration": 0, "task/edge": 0.5},
        {"iteration": 39, "loss_cls": 1.25, "lr": 0.2},
        {"iteration": 20, "task/edge": 0.25},
    )
    metrics = read_metrics(path)
    assert metrics.keys() == {"loss_cls", "lr", "task/edge"}
    assert _points(metrics["loss_cls"]) == [(19, 1.5), (39, 1.25)] and _points(metrics["lr"]) == [(19, 0.1), (39, 0.2)]
    assert _points(metrics["task/edge"]) == [(0, 0.5), (20, 0.25)]
    assert metrics["lr"][0].dtype == np.int64 and metrics["lr"][1].dtype == np.float64


def test_what_a_resumed_run_went_through_again_replaces_the_earlier(write):
    """Killed at 80 after an evaluation at 75, resumed at 40, evaluated again at 75 only after the file's end."""
    path = write(
        {"iteration": 19, "loss": 9},
        {"iteration": 0, "task/edge": 9},
        {"iteration": 39, "loss": 8, "bbox/AP50": 10},
        {"iteration": 20, "task/edge": 8},
        {"iteration": 59, "loss": 7},
        {"iteration": 40, "task/edge": 7},
        {"iteration": 75, "bbox/AP50": 20},
        {"iteration": 79, "loss": 6},
        {"iteration": 60, "task/edge": 6},
        {"iteration": 49, "loss": 5},
        {"iteration": 40, "task/edge": 5},
        {"iteration": 69, "loss": 4},
        {"iteration": 60, "task/edge": 4},
    )
    metrics = read_metrics(path)
    assert _points(metrics["loss"]) == [(19, 9), (39, 8), (49, 5), (69, 4)]
    assert _points(metrics["task/edge"]) == [(0, 9), (20, 8), (40, 5), (60, 4)]
    assert _points(metrics["bbox/AP50"]) == [(39, 10)]


def test_a_run_started_again_from_the_beginning_leaves_nothing_of_the_first(write):
    first = [{"iteration": i, "loss": 9} for i in (19, 39, 59)] + [{"iteration": 60, "edge/ODS": 0.5}]
    metrics = read_metrics(write(*first, {"iteration": 9, "loss": 1}, {"iteration": 19, "loss": 2}))
    assert _points(metrics.pop("loss")) == [(9, 1), (19, 2)] and metrics == {}


def test_of_a_run_resumed_twice_the_last_part_wins(write):
    parts = [(1, (10, 20, 30, 40)), (2, (20, 30)), (3, (30, 40))]
    lines = [{"iteration": i, "loss": part} for part, iterations in parts for i in iterations]
    assert _points(read_metrics(write(*lines))["loss"]) == [(10, 1), (20, 2), (30, 3), (40, 3)]


def test_truncated_line_is_left_out_with_a_warning(write, caplog):
    path = write({"iteration": 19, "loss": 2.0}, '{"iteration": 39, "lo')
    with caplog.at_level(logging.WARNING):
        assert _points(read_metrics(path)["loss"]) == [(19, 2.0)]
    assert "1 of 2 lines" in caplog.text


def test_values_that_are_not_finite_are_nan_and_text_is_no_scalar(write):
    path = write('{"iteration": 1, "a": NaN, "b": Infinity, "c": null, "d": "text", "e": true, "f": [1]}\n')
    metrics = read_metrics(path)
    assert metrics.keys() == {"a", "b", "c"} and all(np.isnan(values).all() for _, values in metrics.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "it is empty"), ("\n \n", "it is empty"), ('{"loss": 1}\n[1]\nno\n', "none of its 3 lines")],
)
def test_file_without_a_record_is_refused(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as error:
        read_metrics(path)
    assert str(path) in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.json: no such file"):
        read_metrics(tmp_path / "metrics.json")
