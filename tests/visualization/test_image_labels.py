"""Image labels as a cell of a panel and over a frame."""

import numpy as np
import torch
from detectron2.data.catalog import Metadata

from mtl_d2.visualization import draw_overlay, draw_panel, read_labels, reduce_for_drawing
from mtl_d2.visualization.image_labels import LIKELY, UNKNOWN_COLOR, UNLIKELY, draw_image_labels, name_image_labels
from mtl_d2.visualization.samples import draw_samples

NAMES = Metadata().set(image_label_classes=["cat", "dog", "fox"])
SIZE = (100, 200)


def _bars(cell, color):
    """(first row, width) of the bars of that colour."""
    rows = (cell == color).all(axis=2)
    tops = np.flatnonzero(rows.any(axis=1) & ~np.roll(rows.any(axis=1), 1))
    return [(int(top), int(rows[top].nonzero()[0].max()) - 7) for top in tops]


def test_bars_are_as_long_as_probabilities_and_the_likeliest_is_first():
    cell = draw_image_labels(SIZE, torch.tensor([0.25, 0.75, 0.5]), NAMES, scores=True)
    assert cell.shape == (*SIZE, 3)
    assert _bars(cell, LIKELY) == [(8, round(184 * 0.75)), (30, 92)] and _bars(cell, UNLIKELY) == [(52, 46)]
    swapped = draw_image_labels(SIZE, torch.tensor([0.75, 0.25, 0.5]), NAMES, scores=True)
    assert not np.array_equal(cell, swapped)  # the names


def test_labels_that_are_present_or_unknown_are_drawn():
    cell = draw_image_labels(SIZE, np.array([0, 1, -1]), NAMES, scores=False)
    assert [top for top, _ in _bars(cell, LIKELY)] == [8] and [top for top, _ in _bars(cell, UNKNOWN_COLOR)] == [30]
    assert draw_image_labels(SIZE, np.zeros(3), NAMES, scores=False).min() < 100  # says that there is none


def test_what_does_not_fit_is_counted_and_nan_is_drawn():
    many = draw_image_labels((60, 200), torch.linspace(1, 0.9, 50), Metadata(), scores=True)
    assert len(_bars(many, LIKELY)) == 1
    draw_image_labels((5, 9), torch.tensor([float("nan"), 0.5, 2]), NAMES, scores=True)


def test_a_panel_and_samples_have_a_cell_and_a_reduced_answer_keeps_the_labels():
    image = np.zeros((40, 60, 3), np.uint8)
    prediction = {"image_labels": torch.tensor([0.25, 0.75, 0.5])}
    labels = read_labels({}, read_image_labels=lambda _: np.array([0, 1, -1], np.float32))
    one, two = draw_panel(image, prediction, NAMES), draw_panel(image, prediction, NAMES, labels=labels)
    assert two.shape[1] == one.shape[1] and two.shape[0] == 2 * one.shape[0]
    assert one.shape[1] > 2 * 512  # the input, and its labels
    _, small = reduce_for_drawing(np.zeros((3000, 20, 3), np.uint8), prediction)
    assert torch.equal(small["image_labels"], prediction["image_labels"])
    sample = {"image": torch.zeros(3, 40, 60), "image_labels": torch.tensor([0.0, 1, -1])}
    drawn = draw_samples([("a", sample), ("b", {"image": sample["image"]})], NAMES, label_keys=("image_labels",))
    assert len(_bars(drawn, LIKELY)) == 1


def test_a_frame_names_the_likely_classes_alone():
    frame = np.full((60, 200, 3), 255, np.uint8)
    drawn = draw_overlay(frame, {"image_labels": torch.tensor([0.25, 0.75, 0.1])}, NAMES)
    assert (drawn[:10, :10] == 0).any() and (drawn[30:] == 255).all()
    assert (draw_overlay(frame, {"image_labels": torch.tensor([0.25, 0.1, 0.1])}, NAMES) == 255).all()


def test_names_of_derived_labels():
    metadata = Metadata().set(thing_classes=["cat"], stuff_classes=["sky", "sea"])
    assert name_image_labels(metadata, "instances").image_label_classes == ["cat"]
    assert name_image_labels(metadata, "sem_seg").image_label_classes == ["sky", "sea"]
    assert name_image_labels(metadata, "given").image_label_classes == [] and "cat" in metadata.thing_classes
