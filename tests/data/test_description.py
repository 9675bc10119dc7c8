"""Descriptions of datasets: what is read from them, and what is refused with the key and the fix."""

from pathlib import Path

import pytest

from mtl_d2.data import DatasetError
from mtl_d2.data.description import Description, parse_description, read_description
from mtl_d2.data.description_classes import description_metadata, map_things, semantic_id_map

MINIMAL = {"images": "images", "instances": "a.json"}
SEMANTIC = {"folder": "semantic", "classes": ["ground", "cat", "sky"], "stuff": ["ground", "sky"]}
FULL = """
images: images
split: train.txt
instances: ${DETECTRON2_DATASETS}/other/a.json
thing_classes: [cat, dog]
semantic: {folder: /elsewhere/semantic, classes: [ground, cat, sky], stuff: [ground, sky]}
edges: {derive: union}
keypoints: {names: [left eye, right eye], flip_pairs: [[left eye, right eye]]}
image_labels: {file: labels.json, classes: [indoor, outdoor]}
class_map: {things: {kitty: cat, cow: null}, semantic: {sky: ground}}
max_dets: 300
"""


def parse(**keys) -> Description:
    return parse_description({"name": "pets", **keys}, source="pets.yaml", root="/data/pets", datasets_root="/data")


def test_every_key_is_read_and_paths_start_from_the_file(tmp_path):
    (tmp_path / "pets_train.yaml").write_text(FULL)
    found = read_description(tmp_path / "pets_train.yaml", "/data")
    assert (found.name, found.max_dets, found.edges.derive) == ("pets_train", 300, "union")
    assert found.images == str(tmp_path / "images") and found.split == str(tmp_path / "train.txt")
    assert found.instances == "/data/other/a.json"
    assert found.semantic.folder == "/elsewhere/semantic" and found.semantic.ignore_label == 255
    assert found.thing_map == {"kitty": "cat", "cow": None} and found.semantic_map == {"sky": "ground"}
    metadata = description_metadata(found)
    assert metadata["thing_classes"] == ["cat", "dog"] and metadata["stuff_classes"] == ["ground", "cat"]
    assert metadata["stuff_ids"] == [0] and metadata["edge_source"] == "union" and metadata["max_dets"] == 300
    assert metadata["keypoint_flip_map"] == [("left eye", "right eye")]
    assert metadata["image_label_classes"] == ["indoor", "outdoor"] and metadata["evaluator_type"] == "mtl"


def test_what_is_not_known_is_not_in_the_metadata():
    assert not {"thing_classes", "stuff_classes", "stuff_ids", "ignore_label"} & set(
        description_metadata(parse(**MINIMAL))
    )
    only_semantic = parse(images="i", semantic={"folder": "s", "classes": ["a", "b"]})
    assert "stuff_ids" not in description_metadata(only_semantic)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image": "x"}, r"pets.yaml: 'image': found an unknown key, .* did you mean 'images'"),
        (
            {"semantic": {**SEMANTIC, "clases": []}},
            "'semantic.clases': found an unknown key, .* did you mean 'classes'",
        ),
        ({"class_map": {"thing": {}}}, "'class_map.thing': found an unknown key, .* did you mean 'things'"),
        ({"name": "../pets"}, r"'name': found '\.\./pets', expected a name without slashes; rename the dataset"),
        ({"name": "/pets"}, "'name': found '/pets', expected a name without slashes"),
        ({"name": ".."}, r"'name': found '\.\.', expected a name without slashes"),
        ({"images": None}, "'images': missing, expected the folder of the images; add it"),
        ({"images": ["a"]}, r"'images': found \['a'\], expected the folder of the images; write it as text"),
        ({"images": "../other"}, r"'images': found '../other', expected a path inside /data/pets; write an absolute"),
        ({"images": "a/../../other"}, r"'images': found 'a/../../other', expected a path inside /data/pets"),
        ({"images": "${DETECTRON2_DATASETS}/../x"}, "'images': found '../x', expected a path inside /data"),
        (
            {"images": "${HOME}/x"},
            r"'images': found '\$\{HOME\}/x', expected no variable but \$\{DETECTRON2_DATASETS\}",
        ),
        ({"instances": None}, "'instances': missing, expected a label: instances, semantic, edges or image_labels"),
        ({"thing_classes": "cat"}, "'thing_classes': found 'cat', expected names; write a list"),
        ({"thing_classes": ["cat", False]}, r"'thing_classes\[1\]': found False, expected a name; write it in quotes"),
        ({"thing_classes": ["cat", "cat"]}, r"'thing_classes\[1\]': found 'cat', expected each name once"),
        ({"max_dets": "many"}, "'max_dets': found 'many', expected an integer"),
        ({"max_dets": 0}, "pets.yaml: max_dets: found 0, expected a positive"),
        ({"semantic": "semantic"}, "'semantic': found 'semantic', expected keys with values"),
        ({"semantic": {**SEMANTIC, "classes": None}}, "'semantic.classes': missing, expected names by the id"),
        ({"semantic": {**SEMANTIC, "stuff": ["grund"]}}, "'semantic.stuff': found 'grund', .* did you mean 'ground'"),
        ({"semantic": {**SEMANTIC, "stuff": None}}, r"'semantic.stuff': missing, expected the names .* \[\] if none"),
        ({"semantic": {**SEMANTIC, "ignore_label": 1}}, "ignore_label: found 1, which is the id of a class"),
        ({"edges": {"derive": "mask"}}, "'edges.derive': found 'mask', expected one of instance, semantic, union"),
        ({"edges": {"derive": "union"}}, "'edges.derive': found 'union', expected the key 'semantic'"),
        ({"edges": {"derive": "instance", "folder": "e"}}, "'edges': found .*, expected either 'derive' or 'folder'"),
        ({"keypoints": {"names": ["a"], "flip_pairs": [["a", "b"]]}}, r"'keypoints.flip_pairs': found \['a', 'b'\]"),
        ({"keypoints": {"names": ["a"], "flip_pairs": 5}}, "'keypoints.flip_pairs': found 5, expected pairs of a"),
        ({"instances": None, "edges": {"folder": "e"}, "thing_classes": ["a"]}, "'thing_classes': .*add instances"),
        ({"class_map": {"semantic": {"a": "b"}}}, "'class_map.semantic': .*expected the key 'semantic' beside it"),
        ({"class_map": {"things": {"a": 5}}}, r"'class_map.things': found \{'a': 5\}, expected a name, and a name or"),
        ({"class_map": {"things": ["a"]}}, r"'class_map.things': found \['a'\], expected \{name here: name in the run"),
    ],
)
def test_a_bad_key_is_named_with_what_was_found_and_the_fix(keys, message):
    with pytest.raises(DatasetError, match=message):
        description_metadata(parse(**{**MINIMAL, **keys}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"bad.yaml: is no YAML \(.*line 1"),
        ("- images", "bad.yaml: the file: found .*expected keys with values"),
        ("", "bad.yaml: the file: found None, expected keys with values"),
        ("images: !!python/object/apply:os.getcwd []", "bad.yaml: is no YAML .*could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_description_is_named(tmp_path: Path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_description(tmp_path / "bad.yaml", "/data")
    with pytest.raises(DatasetError, match=r"gone.yaml: cannot be read \(No such file"):
        read_description(tmp_path / "gone.yaml", "/data")


def test_things_are_found_by_name_whatever_their_order():
    plain = parse(**MINIMAL)
    assert map_things(plain, ["dog", "cat"]) == (["dog", "cat"], [0, 1])
    ordered = parse(**MINIMAL, thing_classes=["cat", "dog", "cow"], class_map={"things": {"kitty": "cat", "fly": None}})
    assert map_things(ordered, ["dog", "kitty", "fly", "cat"]) == (["cat", "dog", "cow"], [1, 0, None, 0])
    with pytest.raises(DatasetError, match="'class_map.things': found 'kitty', .*expected one of kity; did you mean"):
        map_things(ordered, ["kity"])
    with pytest.raises(DatasetError, match="'thing_classes': found no 'bird', which .* 'bird' becomes, .*cat, dog"):
        map_things(ordered, ["kitty", "fly", "bird"])


def test_semantic_ids_are_mapped_to_the_runs_and_void_stays_void():
    def semantic(semantic_map=None, **keys):
        return parse(images="i", semantic={**SEMANTIC, **keys}, class_map={"semantic": semantic_map or {}})

    same, mapped = semantic(), semantic({"sky": None, "cat": "pet"}, run_classes=["pet", "ground"], stuff=["ground"])
    assert semantic_id_map(same, same.semantic) is None
    assert semantic_id_map(mapped, mapped.semantic) == {0: 1, 1: 0, 2: 255, 255: 255}
    assert description_metadata(mapped)["stuff_ids"] == [1]
    nothing = semantic(dict.fromkeys(SEMANTIC["classes"]))
    with pytest.raises(DatasetError, match="'class_map.semantic': found no class that is kept"):
        semantic_id_map(nothing, nothing.semantic)
