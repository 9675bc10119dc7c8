"""What cannot be run ends with one sentence and a status, from one process and from two."""

import sys

import pytest

from mtl_d2.engine.command_line import main

QUICK = ["--config-file", "configs/quick/shapes.yaml"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dataset_that_is_not_there(processes, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))  # for the processes that are started
    broken = tmp_path / "broken.yaml"
    broken.write_text("images: nowhere\ninstances: nowhere.json\n")
    options = ["DATASETS.TRAIN", f"('{broken}',)", "OUTPUT_DIR", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main([*QUICK, "--num-gpus", str(processes), *options])
    said = f"{stopped.value.code}\n{capfd.readouterr().err}"
    assert f"dataset 'broken': {tmp_path}/nowhere does not exist; correct {broken}" in said
    assert "Traceback" not in said
    assert stopped.value.code not in (0, None)


def test_more_gpus_than_the_machine_has(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(SystemExit, match="--num-gpus 8, but this machine shows 0 GPUs"):
        main([*QUICK, "--num-gpus", "8", "MODEL.DEVICE", "cuda"])


def test_weights_that_are_not_there():
    with pytest.raises(SystemExit, match=r"MODEL\.WEIGHTS is nowhere\.pth, where no file is \(looked up from "):
        main([*QUICK, "MODEL.WEIGHTS", "nowhere.pth"])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("MODEL.MTL.BALANCER.NAME", "upgrad"), r"NAME is 'upgrad', .*pip install 'mtl_d2\[balance\]'"),
        (("MODEL.MTL.BALANCER.WEIGHTS.edge", "-1.0"), r"WEIGHTS\.edge is -1\.0: expected a finite number"),
        (("MODEL.MTL.BALANCER.NAME", "grad_norm"), r"NAME is 'grad_norm': expected one of \[.*'gradnorm'"),
    ],
)
def test_a_balancer_that_cannot_be_had(option, sentence, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(SystemExit, match=sentence):
        main([*QUICK, *option])
