"""Edge maps and ground truth of other projects: every form is read, every wrong one is named."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mtl_d2.evaluation import EdgeOptions, edge_files
from mtl_d2.evaluation.edge_files import GroundTruthForm, read_ground_truth, read_prediction
from mtl_d2.evaluation.edge_folders import pair_files, score_folders
from mtl_d2.structures import edges_from_ids, thin

EDGES = GroundTruthForm()
CRISP = EdgeOptions(nms=False, thin=False, thresholds=9)


def column(at: int) -> np.ndarray:
    image = np.zeros((12, 16), np.uint8)
    image[:, at] = 1
    return image


def save_bsds(path, annotators) -> None:
    cells = np.empty((1, len(annotators)), dtype=object)
    for k, edges in enumerate(annotators):
        cells[0, k] = {"Segmentation": np.ones(edges.shape, np.uint16), "Boundaries": edges.astype(np.uint8)}
    savemat(path, {"groundTruth": cells})


SOFT = np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16)


def test_a_png_of_16_bits_is_the_same_as_an_older_pillow_reads_it(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray((SOFT * 65535).round().astype(np.uint16)).save(path)
    monkeypatch.setattr(edge_files, "_read", lambda path: [np.array(Image.open(path)).astype(np.int32)])
    np.testing.assert_allclose(read_prediction(path), SOFT, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "save", "tolerance"),
    [
        ("a.png", lambda p: Image.fromarray((SOFT * 255).round().astype(np.uint8)).save(p), 0.002),
        ("a.PNG", lambda p: Image.fromarray((SOFT * 65535).round().astype(np.uint16)).save(p), 1e-4),
        ("a.npy", lambda p: np.save(p, SOFT[None]), 0),
        ("a.npy", lambda p: np.save(p, (SOFT * 255).round().astype(np.uint8)), 0.002),
        ("a.npz", lambda p: np.savez(p, edge=SOFT[..., None]), 0),
        ("a.mat", lambda p: savemat(p, {"E": SOFT.astype(float)}), 0),
    ],
)
def test_prediction_of_every_form(tmp_path, name, save, tolerance):
    save(tmp_path / name)
    found = read_prediction(tmp_path / name)
    assert found.shape == SOFT.shape and np.abs(found - SOFT).max() <= tolerance
    assert np.abs(read_prediction(tmp_path / name, invert=True) - (1 - SOFT)).max() <= max(tolerance, 1e-6)


@pytest.mark.parametrize("invert", [False, True])
def test_a_png_of_one_bit_is_0_and_1_in_both_polarities(tmp_path, invert):
    edges = column(3) > 0
    Image.fromarray(edges != invert).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    found = read_prediction(tmp_path / "a.png", invert=invert)
    assert found.dtype == np.float32 and (found == edges).all()


def test_ground_truth_of_every_form(tmp_path):
    both = [column(3), column(5)]
    Image.fromarray(column(3) * 255).save(tmp_path / "one.png")
    np.save(tmp_path / "two.npy", np.stack(both))
    np.savez(tmp_path / "two.npz", first=both[0], second=both[1] > 0)
    save_bsds(tmp_path / "two.mat", both)
    savemat(tmp_path / "one.mat", {"E": column(3)})
    Image.fromarray(column(3) > 0).save(tmp_path / "one_bit.png")
    (tmp_path / "folder").mkdir()
    for k, edges in enumerate(both):
        Image.fromarray(edges * 255).save(tmp_path / "folder" / f"{k}.png")
    for name in ("one.png", "one_bit.png", "one.mat", "two.npy", "two.npz", "two.mat", "folder"):
        found, ignore = read_ground_truth(tmp_path / name, EDGES)
        expected = both[:1] if name.startswith("one") else both
        assert ignore is None and len(found) == len(expected), name
        assert all((a == (b > 0)).all() for a, b in zip(found, expected, strict=True)), name


def test_ids_give_the_edges_between_them_and_void_is_ignored(tmp_path):
    ids = np.zeros((12, 16), np.uint8)
    ids[2:9, 4:11] = 7
    ids[:, 14:] = 255
    Image.fromarray(ids).save(tmp_path / "ids.png")
    (edges,), ignore = read_ground_truth(tmp_path / "ids.png", GroundTruthForm(kind="ids", ignore=255))
    label = edges_from_ids(ids, ids == 255)
    assert (edges == thin(label == 1)).all() and edges.sum() > 20
    assert (ignore == (label == 255)).all() and ignore[:, 14:].all() and not ignore[:, :13].any()
    edges, ignore = read_ground_truth(tmp_path / "ids.png", GroundTruthForm(kind="ids"))
    assert edges[0][:, 13].all() and ignore is None


def test_ignored_value_and_thick_lines(tmp_path):
    drawn = column(3) + column(4) + column(5) + 255 * column(9)
    np.save(tmp_path / "a.npy", drawn)
    (edges,), ignore = read_ground_truth(tmp_path / "a.npy", GroundTruthForm(ignore=255, thin=True))
    assert (edges == thin(drawn == 1)).all() and 0 < edges.sum() < 15 and (ignore == (drawn == 255)).all()


def write(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".png":
        (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path)
    elif path.suffix == ".mat":
        savemat(path, content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content, allow_pickle=True)


GOOD = column(3).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", GOOD[:, 1:], r"a\.npy .* size .*found \(12, 15\)"),
        ("a.npy", 1 - GOOD, r"a\.npy looks inverted"),
        ("a.png", 255 - 255 * column(3), r"a\.png looks inverted"),
        ("a.npy", 255 * GOOD, r"a\.npy .* divide by 255"),
        ("a.npy", GOOD * np.nan, r"a\.npy .* NaN"),
        ("a.npy", GOOD.astype(np.int64), r"a\.npy: found int64"),
        ("a.npy", np.stack([GOOD] * 3), r"a\.npy: found an array of the shape \(3, 12, 16\)"),
        ("a.npy", np.array([{"pickled": 1}], dtype=object), r"a\.npy: cannot be read as \.npy"),
        ("a.npz", {"a": GOOD, "b": GOOD}, r"a\.npz: found 2 maps"),
        ("a.png", np.stack([column(3)] * 3, axis=-1), r"a\.png: found 3 channels"),
        ("a.png", Image.fromarray(column(3)).convert("P"), r"a\.png: found a palette"),
        ("a.png", b"no picture", r"a\.png: cannot be read as \.png"),
        ("a.mat", {"note": "text"}, r"a\.mat: found no array of numbers"),
        ("a.mat", b"MATLAB 7.3", r"a\.mat: cannot be read as \.mat"),
        ("b.npy", GOOD, r"pred: found no edge map for .*a\.png.*expected a with one of \.png"),
        ("a.jpg", GOOD, r"pred: found no edge maps, expected files ending with \.png"),
    ],
)
def test_prediction_that_cannot_be_scored_is_named(tmp_path, name, content, message):
    write(tmp_path / "gt/a.png", column(3) * 255)
    write((tmp_path / "pred" / name), content) if name != "a.jpg" else (tmp_path / "pred").mkdir()
    with pytest.raises(ValueError, match=message):
        score_folders(pair_files(tmp_path / "pred", tmp_path / "gt")[0], jobs=0)


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        ("a.png", column(3) + 2 * column(5), {}, r"a\.png: found the values 1, 2 beside 0.*--gt-kind ids"),
        ("a.png", 255 - 255 * column(3), {}, r"a\.png: 94 % of the pixels are edges"),
        ("a.npy", np.zeros((0, 12, 16), bool), {}, r"a\.npy: found no annotator's edges"),
        ("a.mat", {"groundTruth": np.empty((1, 0), object)}, {}, r"a\.mat: .*one annotator or more"),
        ("a.mat", {"groundTruth": np.ones((3, 3))}, {}, r"a\.mat: .*cell array of structs with 'Boundaries'"),
        ("a.npz", {"a": GOOD, "b": GOOD[1:]}, {}, r"a\.npz: found maps of the shapes \[\(11, 16\), \(12, 16\)\]"),
        ("a.npy", GOOD, {"kind": "ids"}, r"a\.npy: found float32, expected integers"),
    ],
)
def test_ground_truth_that_cannot_be_used_is_named(tmp_path, name, content, form, message):
    write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        read_ground_truth(tmp_path / name, GroundTruthForm(**form))


def test_folders_are_matched_by_stem(tmp_path):
    for stem in ("a", "b", "extra"):
        write(tmp_path / f"pred/{stem}.npy", GOOD)
    write(tmp_path / "gt/a.png", column(3) * 255)
    write(tmp_path / "gt/b/0.png", column(3) * 255)
    write(tmp_path / "gt/b/1.png", column(7) * 255)
    (tmp_path / "gt/notes.txt").write_text("no ground truth")
    pairs, unused = pair_files(tmp_path / "pred", tmp_path / "gt")
    assert list(pairs) == ["a", "b"] and unused == ["extra"]
    scored = score_folders(pairs, options=CRISP, jobs=2)
    assert scored.names == ("a", "b")
    assert scored.counts["benchmark"][:, 0].tolist() == [[12, 12, 12, 12], [12, 12, 12, 24]]


def test_two_files_of_one_stem_are_not_chosen_from(tmp_path):
    for name in ("pred/a.npy", "gt/a.npy", "gt/a.npz"):
        write(tmp_path / name, {"a": GOOD} if name.endswith("z") else GOOD)
    with pytest.raises(ValueError, match=r"a\.npz: a\.npy has the same name"):
        pair_files(tmp_path / "pred", tmp_path / "gt")
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        pair_files(tmp_path / "nowhere", tmp_path / "gt")
