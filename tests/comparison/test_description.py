"""A description is read, or ends with one sentence that names the key; the examples of configs/compare are whole."""

from pathlib import Path

import pytest
import yaml

from mtl_d2.comparison import ComparisonError, read_comparison
from mtl_d2.engine.defaults import flat

ROOT = Path(__file__).parents[2]
GOOD = {
    "config": "../base.yaml",
    "seeds": [1, 2],
    "references": {"edge": {"MODEL.MTL.TASKS": ["edge"]}},
    "joint": {"equal": {"MODEL": {"MTL": {"BALANCER": {"NAME": "equal"}}}}, "plain": {}},
    "grid": {"one": {"MODEL.MTL.BALANCER.WEIGHTS.edge": 1.0}},
    "balancers": ["equal"],
    "search": {"folds": 2, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}, "overrides": {"SOLVER.MAX_ITER": 9}},
    "note": "of  one\nannotation",
}


def _read(tmp_path, **changes):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({key: v for key, v in {**GOOD, **changes}.items() if v is not ...}))
    return read_comparison(path)


def test_a_description_is_read(tmp_path):
    comparison = _read(tmp_path)
    assert comparison.name == "toy" and comparison.config == str(tmp_path.parent / "base.yaml")
    assert [(c.name, c.role, c.is_balancer) for c in comparison.candidates] == [
        ("edge", "reference", False),
        ("equal", "joint", True),
        ("plain", "joint", False),
        ("one", "grid", False),
    ]
    assert comparison.candidates[1].overrides == {"MODEL.MTL.BALANCER.NAME": "equal"}
    assert comparison.search.values == {"SOLVER.BASE_LR": [0.1, 0.2]} and comparison.note == "of one annotation"
    assert _read(tmp_path, search="none").search is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": ...}, "no 'seeds'"),
        ({"search": ...}, "no 'search'"),
        ({"sedes": [1]}, "'sedes' is no key"),
        ({"seeds": []}, "'seeds': found"),
        ({"seeds": [1, 1]}, "expected each once"),
        ({"seeds": [True]}, "expected one or more integers"),
        ({"seeds": 3}, "'seeds': found a int, 3, expected a list"),
        ({"processes": 0}, "'processes': found 0"),
        ({"longer_seeds": 0}, "'longer_seeds': found 0"),
        ({"search": "off"}, "found 'off', expected a mapping"),
        ({"search": {"folds": 1, "values": {"A": [1]}}}, "'folds': found 1, expected 2 or more"),
        ({"search": {"folds": 2, "values": {}}}, "'values' is empty"),
        ({"search": {"folds": 2, "held_out": 3, "values": {"A": [1]}}}, "'held_out': found 3, expected 1 to 2"),
        ({"search": {"folds": 2, "values": {"SOLVER.BASE_LR": 0.1}}}, "SOLVER.BASE_LR: found a float"),
        ({"joint": {"edge": {}}}, "'edge' stands in two"),
        (
            {"joint": {"staged": {"SOLVER.MTL.STAGES": [{"NAME": "a"}, {"NAME": "b", "DATASETS": {"TRAIN": ["x"]}}]}}},
            "joint.staged: DATASETS.TRAIN is set by the comparison itself",
        ),
        ({"joint": {"s": {"SOLVER": {"MTL": {"STAGES": [{"NAME": "a", "SEED": 3}]}}}}}, "joint.s: SEED is set by the"),
        ({"joint": {"equal": None}}, "joint.equal: found nothing"),
        ({"joint": {"equal": {"SEED": 3}}}, "SEED is set by the comparison itself"),
        ({"joint": {"equal": {"DATASETS": {"TEST": ["x"]}}}}, "DATASETS.TEST is set by the comparison"),
        ({"balancers": ["dwa"]}, "'dwa' is none of 'joint'"),
        ({"grid": ...}, "add 'grid'"),
    ],
)
def test_a_fault_is_one_sentence_that_names_the_file_and_the_key(tmp_path, changes, sentence):
    with pytest.raises(ComparisonError) as caught:
        _read(tmp_path, **changes)
    assert sentence in str(caught.value) and "toy.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "!!python/object/apply:os.getcwd []", "[1, 2]", ""])
def test_what_is_no_plain_mapping_is_a_sentence(tmp_path, text):
    (tmp_path / "toy.yaml").write_text(text)
    with pytest.raises(ComparisonError, match="toy.yaml"):
        read_comparison(tmp_path / "toy.yaml")


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ComparisonError, match=r"none\.yaml: cannot be read"):
        read_comparison(tmp_path / "none.yaml")


def test_nested_overrides_are_dotted_and_empty_ones_stay():
    assert flat({"A": {"B": 1, "C": {"D": [2]}}, "E.F": {}}) == {"A.B": 1, "A.C.D": [2], "E.F": {}}


@pytest.mark.parametrize("path", sorted((ROOT / "configs/compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_whole(path):
    comparison = read_comparison(path)
    assert Path(comparison.config).is_file() and comparison.of_role("reference") and comparison.of_role("joint")
