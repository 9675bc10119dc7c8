"""Every fault that is planted is found, alone and among others; no input ends a check without a clear sentence."""

import json
import random

import pytest

from mtl_d2.data import DatasetError
from mtl_d2.data.check import check_dataset
from mtl_d2.data.faults import Fault
from tests.data.check.planting import PLANTS, WHOLE, Planted
from tests.data.check.toy_set import COUNT, NAME, forget, register, valid_set

# Faults of these kinds take their image or its id away, so that what else is wrong with it cannot be seen.
JUNK = (None, "x", "", [], {}, [[]], -1, 0, 1e300, 10**400, float("nan"), True, "\ud800", [None], {"size": "x"})


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget(NAME)


def faults_of(toy, folder) -> list[Fault]:
    toy.write(folder)
    return check_dataset(register(folder), jobs=0).faults


def matches(fault: Fault, planted: Planted) -> bool:
    return fault.kind == planted.kind and fault.file.endswith(planted.file) and fault.field == planted.field


def test_a_valid_set_has_no_fault(tmp_path):
    assert faults_of(valid_set(), tmp_path) == []


@pytest.mark.parametrize("name", PLANTS)
def test_a_fault_planted_alone_is_found_with_its_file_and_field(name, tmp_path):
    toy = valid_set()
    planted = PLANTS[name](toy, 2)
    faults = faults_of(toy, tmp_path)
    assert any(matches(fault, planted) for fault in faults), [str(fault) for fault in faults]
    assert all(fault.fix and fault.found and str(fault).endswith(".") for fault in faults)


@pytest.mark.parametrize("name", WHOLE)
def test_a_json_that_is_none_is_named(name, tmp_path):
    toy = valid_set()
    toy.write(tmp_path)
    (tmp_path / "instances.json").write_bytes(WHOLE[name](toy))
    faults = check_dataset(register(tmp_path), jobs=0).faults
    assert any(f.kind == "json" and f.file.endswith("instances.json") for f in faults)


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_fault_among_several_hides_another(first, tmp_path):
    for case in range(first, first + 50):
        rng = random.Random(case)
        toy = valid_set()
        images = rng.sample(range(COUNT), rng.randint(1, 4))
        names = rng.sample(sorted(PLANTS), len(images))
        planted = [PLANTS[name](toy, image) for name, image in zip(names, images, strict=True)]
        faults = faults_of(toy, tmp_path / str(case))
        for name, expected in zip(names, planted, strict=True):
            assert any(matches(f, expected) for f in faults), (case, name, names, [str(f) for f in faults])


def _places(node, path=()):
    """All places of a json below its root."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from _places(value, (*path, key))


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_junk_anywhere_in_json_and_files_ends_in_faults_or_one_sentence(first, tmp_path):
    for case in range(first, first + 50):
        rng = random.Random(1000 + case)
        toy = valid_set()
        for _ in range(rng.randint(1, 3)):
            *parents, key = rng.choice(list(_places(toy.content)))
            node = toy.content
            for parent in parents:
                node = node[parent]
            node[key] = rng.choice(JUNK)
        name = rng.choice(sorted(toy.files))
        data = bytearray(toy.files[name])
        for _ in range(rng.randint(0, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        toy.files[name] = bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            faults = faults_of(toy, tmp_path / str(case))
        except DatasetError as error:
            assert str(error).endswith("."), case
            continue
        json.dumps([fault.to_dict() for fault in faults])
        assert all("Traceback" not in str(fault) for fault in faults)
