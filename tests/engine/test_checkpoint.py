"""Reading weights: nothing is run, nothing is left out silently, a backbone loads whole."""

import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mtl_d2.engine.checkpoint import MultiTaskCheckpointer, load_for_evaluation, load_weights
from mtl_d2.engine.weights_file import WeightsError

from .toy import ToyNetwork, toy_network


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def state(model: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_a_file_with_objects_is_refused_in_one_sentence_and_not_run(tmp_path: Path, suffix: str) -> None:
    path, trap = tmp_path / f"weights.{suffix}", tmp_path / "ran"
    content = {"model": state(toy_network()), "extra": Bomb(trap)}
    if suffix == "pth":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"weights.{suffix} holds \S+ .*could run code. .*convert it once"):
        load_weights(toy_network(), str(path))
    assert not trap.exists()


def test_a_pkl_may_name_a_lock_of_threading_but_not_get_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": threading.Lock}))
    with pytest.raises(ValueError, match=r"holds _thread\.\w+"):
        load_weights(toy_network(), str(path))


@pytest.mark.parametrize("protocol", [2, 4])
def test_zoo_files_of_numpy_arrays_load_by_key(tmp_path: Path, protocol: int) -> None:
    source, target = toy_network(), ToyNetwork()
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": state(source), "__author__": "somebody"}, protocol=protocol))
    report = load_weights(target, str(path))
    assert report.loaded == len(source.state_dict())
    assert not (report.missing or report.unexpected or report.reinitialised)
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key]), key


@pytest.mark.parametrize(
    ("name", "content"), [("a.pth", b"not a checkpoint"), ("a.pkl", b"\x80\x04junk"), ("b.pth", b"")]
)
def test_a_foreign_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not a .*fetch or export it again"):
        load_weights(toy_network(), str(tmp_path / name))


def test_layers_of_another_class_count_keep_their_initial_values_and_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(toy_network().state_dict(), path)
    model = ToyNetwork(num_classes=5)
    before = model.sem_seg_head.weight.clone()
    report = load_weights(model, str(path))
    assert [key for key, _, _ in report.reinitialised] == ["sem_seg_head.weight", "sem_seg_head.bias"]
    assert "re-initialised sem_seg_head.weight: (3, 8) in the file, (5, 8) here" in str(report)
    assert torch.equal(before, model.sem_seg_head.weight)


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path) -> None:
    weights = toy_network().state_dict()
    del weights["edge_head.bias"]
    torch.save({"model": {**weights, "depth_head.bias": torch.zeros(1)}}, tmp_path / "weights.pth")
    report = load_weights(ToyNetwork(), str(tmp_path / "weights.pth"))
    assert (report.missing, report.unexpected) == (["edge_head.bias"], ["depth_head.bias"])


def test_a_backbone_that_does_not_load_is_an_error_with_an_example_key(tmp_path: Path) -> None:
    weights = toy_network().state_dict()
    weights["trunk.weight"] = weights.pop("backbone.bottom_up.weight")
    torch.save({"model": weights}, tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=r"weights.pth does not fit the backbone: 1 of its 4 .*'backbone.bottom_up.weight'"
    ):
        load_weights(ToyNetwork(), str(tmp_path / "weights.pth"))


def test_imagenet_weights_need_the_bottom_up_layers_alone(tmp_path: Path) -> None:
    bottom_up = toy_network().backbone["bottom_up"]
    arrays = {f"bottom_up.{key}": value.numpy() for key, value in bottom_up.state_dict().items()}
    path = tmp_path / "R-0.pkl"
    path.write_bytes(pickle.dumps({"model": dict(arrays), "matching_heuristics": True}))
    report = load_weights(ToyNetwork(), str(path))
    assert report.loaded == 2
    del arrays["bottom_up.bias"]
    path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True}))
    with pytest.raises(ValueError, match="does not fit the backbone: 1 of its 2 entries"):
        load_weights(ToyNetwork(), str(path))


def test_a_url_that_cannot_be_reached_says_where_to_put_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    url = "http://127.0.0.1:9/ImageNet/R-50.pkl"
    where = tmp_path / "ImageNet" / "R-50.pkl"
    with pytest.raises(WeightsError, match=f"{url} could not be fetched .* put it at {where}"):
        load_weights(toy_network(), url)
    # And there it is found.
    where.parent.mkdir(exist_ok=True)
    where.write_bytes(pickle.dumps({"model": state(toy_network())}))
    assert load_weights(ToyNetwork(), url).loaded == len(toy_network().state_dict())


def test_a_missing_file_and_an_empty_path() -> None:
    with pytest.raises(WeightsError, match="nowhere.pth is not on the machine of rank"):
        load_weights(toy_network(), "nowhere.pth")
    assert load_weights(toy_network(), "").loaded == 0


def test_resuming_with_another_network_is_refused(tmp_path: Path) -> None:
    MultiTaskCheckpointer(toy_network(), str(tmp_path)).save("model_0000001")
    with pytest.raises(ValueError, match=r"--resume cannot go on from .*model_0000001.pth"):
        MultiTaskCheckpointer(ToyNetwork(num_classes=9), str(tmp_path)).resume_or_load("", resume=True)


def test_ranks_that_do_not_see_one_last_checkpoint_do_not_go_on(tmp_path: Path, monkeypatch) -> None:
    checkpointer = MultiTaskCheckpointer(toy_network(), str(tmp_path))
    checkpointer.save("model_0000001")
    monkeypatch.setattr("mtl_d2.engine.checkpoint.comm.all_gather", lambda mine: [mine, ""])
    with pytest.raises(WeightsError, match=r"not see one last checkpoint .* rank 0 .*model_0000001.pth, rank 1 none: "):
        checkpointer.resume_or_load("", resume=True)


def test_an_evaluation_of_the_last_checkpoint_wants_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--eval-only --resume scores the last .*, where there is none"):
        load_for_evaluation(toy_network(), "", str(tmp_path), resume=True)
    with pytest.raises(WeightsError, match="--eval-only scores MODEL.WEIGHTS .*, which is empty: name a checkpoint"):
        load_for_evaluation(toy_network(), "", str(tmp_path), resume=False)


def test_an_interrupted_save_leaves_the_former_file(tmp_path: Path, monkeypatch) -> None:
    checkpointer = MultiTaskCheckpointer(toy_network(), str(tmp_path))
    checkpointer.save("model")
    whole = (tmp_path / "model.pth").read_bytes()

    def killed(data, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model")
    assert (tmp_path / "model.pth").read_bytes() == whole
