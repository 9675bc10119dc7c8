import shutil

import numpy as np
import pytest
import scipy.io
import yaml

from mtl_d2.data import DatasetError
from mtl_d2.data.converters import convert_dataset
from mtl_d2.evaluation.edge_ground_truth import annotator_edges, ground_truth_edges
from mtl_d2.structures import read_bsds_boundaries
from tests.data.converters.loading import load, photo, read, train_one_step, write_image

LANDSCAPE, PORTRAIT = (48, 65), (65, 48)


def line(size: tuple[int, int], row: int) -> np.ndarray:
    edges = np.zeros(size, np.uint8)
    edges[row, 3:40] = 1
    return edges


def write_mat(path, boundaries: list[np.ndarray], *, compressed: bool = False) -> None:
    cells = np.empty((1, len(boundaries)), object)
    for i, edges in enumerate(boundaries):
        cells[0, i] = {"Segmentation": np.ones(edges.shape, np.uint16), "Boundaries": edges}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells}, do_compression=compressed)


@pytest.fixture
def source(tmp_path):
    """Images with five annotators and with one, and a file that Windows left in the folder."""
    data = tmp_path / "BSR" / "BSDS500" / "data"
    for name, size in (("8068", PORTRAIT), ("100007", LANDSCAPE)):
        write_image(data / "images" / "train" / f"{name}.jpg", photo(*size))
    (data / "images" / "train" / "Thumbs.db").write_bytes(b"no image")
    rows = (10, 10, 10, 20, 30)  # three agree, each of the others is alone
    write_mat(data / "groundTruth" / "train" / "8068.mat", [line(PORTRAIT, row) for row in rows])
    write_mat(data / "groundTruth" / "train" / "100007.mat", [line(LANDSCAPE, 7).astype(bool)])
    return tmp_path / "BSR"


def convert(source, output, **options):
    return convert_dataset("bsds500", source, output, splits=["train"], **options)


def test_each_annotator_has_a_png(source, tmp_path):
    assert loadmat_shape(source) == (1, 5)
    assert convert(source, tmp_path / "out") == {"train": 2}
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out" / "edges").rglob("*.png"))
    assert files == ["edges/train/100007/0.png", *(f"edges/train/8068/{i}.png" for i in range(5))]
    for i, row in enumerate((10, 10, 10, 20, 30)):
        found = read(tmp_path / "out" / "edges" / "train" / "8068" / f"{i}.png")
        assert np.array_equal(found, line(PORTRAIT, row) * 255)
    assert yaml.safe_load((tmp_path / "out" / "train.yaml").read_text()) == {
        "name": "out_train",
        "images": str(source / "BSDS500" / "data" / "images" / "train"),
        "split": "train.txt",
        "edges": {"folder": "edges/train"},
    }
    assert not (tmp_path / "out" / "instances_train.json").exists()


def loadmat_shape(source) -> tuple[int, ...]:
    path = source / "BSDS500" / "data" / "groundTruth" / "train" / "8068.mat"
    return scipy.io.loadmat(path)["groundTruth"].shape


@pytest.mark.parametrize("below", ["", "BSDS500", "BSDS500/data"])
def test_the_folder_is_found_at_each_depth(source, tmp_path, below):
    assert convert(source / below, tmp_path / "out") == {"train": 2}


def test_it_is_read_back_and_trained_on(source, tmp_path):
    convert(source, tmp_path / "out")
    records = load(tmp_path / "out" / "train.yaml")
    assert [(r["height"], r["width"]) for r in records] == [LANDSCAPE, PORTRAIT]
    assert all("annotations" not in r and "sem_seg_file_name" not in r for r in records)
    consensus = ground_truth_edges(records[1])
    expected = line(PORTRAIT, 10) + 255 * (line(PORTRAIT, 20) + line(PORTRAIT, 30))
    assert np.array_equal(consensus, expected)
    assert [int(np.flatnonzero(e.any(axis=1))[0]) for e in annotator_edges(records[1])] == [10, 10, 10, 20, 30]
    assert np.array_equal(ground_truth_edges(records[0]), line(LANDSCAPE, 7))
    assert train_one_step(tmp_path / "out" / "train.yaml", ("edge",))["loss_edge"] > 0


def _no_mat(folder):
    (folder / "8068.mat").unlink()


def _text(folder):
    (folder / "8068.mat").write_text("no MATLAB file, but longer than its header is " * 20)


def _hdf5(folder):
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    (folder / "8068.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(600))


def _other_variable(folder):
    scipy.io.savemat(folder / "8068.mat", {"segs": np.zeros((2, 2))})


def _no_boundaries(folder):
    cells = np.empty((1, 1), object)
    cells[0, 0] = {"Segmentation": np.zeros(PORTRAIT)}
    scipy.io.savemat(folder / "8068.mat", {"groundTruth": cells})


def _nobody(folder):
    scipy.io.savemat(folder / "8068.mat", {"groundTruth": np.empty((1, 0), object)})


def _two_sizes(folder):
    write_mat(folder / "8068.mat", [line(PORTRAIT, 1), line(LANDSCAPE, 1)])


def _other_size(folder):
    write_mat(folder / "8068.mat", [line(LANDSCAPE, 1)])


def _no_folder(folder):
    shutil.rmtree(folder)


FORM = "expected a MATLAB 5 file whose 'groundTruth' is a cell array"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_mat, "8068.mat: no such file, expected the ground truth of 8068.jpg"),
        (_text, f"8068.mat: .*{FORM}"),
        (_hdf5, f"8068.mat: .*{FORM}"),
        (_other_variable, f"8068.mat: KeyError .*{FORM}"),
        (_no_boundaries, f"8068.mat: ValueError .*{FORM}"),
        (_nobody, r"8068.mat: found 'Boundaries' of the shapes \[\], expected those of one annotator or more"),
        (_two_sizes, r"8068.mat: found 'Boundaries' of the shapes \[\(48, 65\), \(65, 48\)\]"),
        (_other_size, r"8068.jpg: found 48 x 65 pixels \(width x height\), expected 65 x 48, the size of its labels"),
        (_no_folder, "groundTruth/train: no such folder, expected the .mat files"),
    ],
)
def test_wrong_input_is_one_sentence(source, tmp_path, spoil, message):
    spoil(source / "BSDS500" / "data" / "groundTruth" / "train")
    with pytest.raises(DatasetError, match=message):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_with_a_wrong_byte_is_named_or_read(tmp_path, compressed):
    path = tmp_path / "a.mat"
    write_mat(path, [line(LANDSCAPE, row) for row in (7, 20)], compressed=compressed)
    data = path.read_bytes()
    named = 0
    for position in range(0, len(data), len(data) // 60):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        try:
            read_bsds_boundaries(path)
        except ValueError as error:
            assert str(path) in str(error)
            named += 1
    assert named > (30 if compressed else 0)
