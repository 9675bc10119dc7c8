import pytest
from detectron2.data.catalog import Metadata

from mtl_d2.data import DatasetError, DatasetSchema
from mtl_d2.data.datasets import FAMILIES

FULL = {
    "thing_classes": ["cat", "dog"],
    "stuff_classes": ["sky", "cat", "dog"],
    "stuff_ids": [0],
    "edge_source": "union",
}


def test_apply_writes_what_from_metadata_reads_back():
    schema = DatasetSchema(**FULL, max_dets=400, thing_dataset_id_to_contiguous_id={3: 0, 7: 1})
    metadata = schema.apply(Metadata(name="toy"))
    assert DatasetSchema.from_metadata(metadata) == schema
    assert metadata.thing_classes == ["cat", "dog"] and metadata.stuff_ids == [0]
    assert metadata.max_dets == 400 and metadata.ignore_label == 255 and metadata.evaluator_type == "mtl"


def test_a_label_that_the_dataset_lacks_is_left_out_of_the_metadata():
    metadata = DatasetSchema(thing_classes=["cat"], edge_source="instance").apply(Metadata(name="toy"))
    assert not hasattr(metadata, "stuff_classes") and not hasattr(metadata, "stuff_ids")


def test_every_semantic_class_is_stuff_where_there_are_no_things():
    assert DatasetSchema(stuff_classes=["sky", "road"]).stuff_ids == (0, 1)


def test_applying_twice_is_fine_and_another_schema_is_refused():
    metadata = DatasetSchema(**FULL).apply(Metadata(name="toy"))
    DatasetSchema(**FULL).apply(metadata)
    with pytest.raises(DatasetError, match="dataset 'toy': max_dets is already 100, expected 7"):
        DatasetSchema(**FULL, max_dets=7).apply(metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stuff_ids": [3]}, r"stuff_ids: found 3, expected ids in \[0, 3\)"),
        ({"stuff_ids": [0, 0]}, "stuff_ids: found .* each id once"),
        ({"stuff_ids": None}, "stuff_ids: missing"),
        ({"thing_classes": ["cat", "cat"]}, "thing_classes: found 'cat' more than once"),
        ({"thing_classes": "cat"}, "thing_classes: found 'cat', expected a list"),
        ({"stuff_classes": ["sky", "", "dog"]}, "stuff_classes: .* not empty"),
        ({"edge_source": "instances"}, "edge_source: found 'instances', expected one of 'instance'"),
        ({"thing_classes": []}, "edge_source: found 'union', but the dataset has no thing_classes"),
        ({"stuff_classes": [], "stuff_ids": []}, "edge_source: found 'union', .* no stuff_classes"),
        ({"max_dets": 0}, "max_dets: found 0, expected a positive integer"),
        ({"max_dets": 1.5}, "max_dets: found 1.5"),
        ({"ignore_label": 2}, "ignore_label: found 2, which is the id of a class"),
        ({"ignore_label": 256}, "ignore_label: found 256"),
        ({"thing_colors": [[0, 0, 0]]}, "thing_colors: found 1 colours, expected one for each of the 2"),
        (
            {"thing_dataset_id_to_contiguous_id": {1: 1, 2: 2}},
            r"found values \[1, 2\], expected each of 0 to 1",
        ),
    ],
)
def test_a_contradiction_names_the_field_and_what_was_found(change, message):
    with pytest.raises(DatasetError, match=message):
        DatasetSchema(**{**FULL, **change})


def test_metadata_of_a_user_s_own_dataset_is_checked_under_its_name():
    metadata = Metadata(name="mine").set(thing_classes=["cat"], stuff_classes=["sky", "cat"])
    with pytest.raises(DatasetError, match="metadata of dataset 'mine': stuff_ids: missing"):
        DatasetSchema.from_metadata(metadata)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__.rpartition(".")[2])
def test_things_and_stuff_of_every_family_cover_its_semantic_classes(family):
    schema = family.SCHEMA
    rest = [c for i, c in enumerate(schema.stuff_classes) if i not in schema.stuff_ids]
    assert rest in (list(schema.thing_classes), ["things"])
