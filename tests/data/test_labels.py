from mtl_d2.data.labels import count_labels, has_objects, is_labelled


def test_an_empty_label_is_a_label_and_an_absent_one_is_not():
    assert is_labelled({"annotations": []}, "instance")
    assert not is_labelled({}, "instance")
    assert is_labelled({"edge_source": "none", "edge_file_name": "a.png"}, "edge")
    assert not is_labelled({"edge_source": "none"}, "edge") and not is_labelled({"edge_source": None}, "edge")


def test_labels_are_counted_by_task():
    records = [{"annotations": []}, {"annotations": [{"iscrowd": 1}], "edge_source": "instance"}, {}]
    assert count_labels(records, ("edge", "depth", "instance", "sem_seg")) == {"edge": 1, "instance": 2, "sem_seg": 0}


def test_a_crowd_is_no_object():
    assert not has_objects({"annotations": []})
    assert not has_objects({"annotations": [{"iscrowd": 1}]})
    assert has_objects({"annotations": [{"iscrowd": 1}, {}]})
