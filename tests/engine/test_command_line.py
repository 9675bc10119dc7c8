"""What cannot be run ends with one sentence and a status, from one process and from two."""

import sys
from types import SimpleNamespace

import pytest

from mtl_d2.engine.command_line import main
from mtl_d2.testing import toy_dataset

QUICK = ["--config-file", "configs/quick/shapes.yaml"]
SYNCHRONISED = ("--num-gpus", "2", "MODEL.FPN.NORM", "SyncBN", "SOLVER.IMS_PER_BATCH", "2")


FLOAT16 = ("SOLVER.AMP.ENABLED", "True", "SOLVER.MTL.AMP_DTYPE")
THINNED = ("DATALOADER.MTL.UNDERSAMPLE_EMPTY", "0.5")
REPEATED = ("DATALOADER.REPEAT_THRESHOLD", "0.1")
FREEZE = "[{'PART': 'balancer', 'FROM': 0, 'TO': -1}]"
SEPARATE = (
    *("MODEL.MTL.BALANCER.NAME", "uncertainty"),
    "MODEL.META_ARCHITECTURE",
    "SeparateTaskNetworks",
    "SOLVER.MTL.SCHEDULE.FREEZE",
    FREEZE,
)


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


def test_a_mixture_that_cannot_be_is_one_sentence(tmp_path, monkeypatch, capfd):
    """Which only the records tell: an image of each of two tasks in a batch of one."""
    terminal = SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("mtl_d2.engine.hooks.sys", terminal)
    with toy_dataset(2, labels=[("instance",), ("sem_seg",)]) as name:
        options = [
            "--config-file",
            "configs/quick/shapes.yaml",
            "DATASETS.TRAIN",
            f"('{name}',)",
            "DATASETS.TEST",
            "()",
        ]
        options += [
            "MODEL.MTL.TASKS",
            "['instance', 'sem_seg']",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
            "4",
            "MODEL.DEVICE",
            "cpu",
        ]
        options += ["MODEL.ROI_HEADS.NUM_CLASSES", "2"]
        options += ["SOLVER.IMS_PER_BATCH", "1", "DATALOADER.MTL.TASK_QUOTA_STEPS", "1", "OUTPUT_DIR", str(tmp_path)]
        with pytest.raises(SystemExit, match="SOLVER.IMS_PER_BATCH: found 1, expected at least 2"):
            main(options)
    assert "Traceback" not in capfd.readouterr().err


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


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("MODEL.DEVICE", "cuda"), "device is 'cuda', but torch sees no GPU here: add MODEL.DEVICE cpu"),
        (("MODEL.MTL.TASKS", "['egde']"), "MODEL.MTL.TASKS names 'egde', which is no task"),
        (("MODEL.MTL.TASKS", "['edge', 'edge']"), r"TASKS is \['edge', 'edge'\]: .* none twice"),
        (("SOLVER.MAX_ITER", "0"), "SOLVER.MAX_ITER is 0; expected at least 1"),
        (("SOLVER.IMS_PER_BATCH", "4", "SOLVER.MTL.ACCUMULATE_STEPS", "3"), "ACCUMULATE_STEPS is 3, .* the 4 images"),
        (
            ("--num-gpus", "2", "MODEL.MTL.EDGE_HEAD.NORM", "SyncBN", "SOLVER.IMS_PER_BATCH", "2"),
            "edge_head, of the task 'edge', has a synchronised batch norm",
        ),
        ((*SYNCHRONISED, "SOLVER.MTL.SCHEDULE.NAME", "alternating"), "norm is a synchronised .* tasks come and go one"),
        ((*SYNCHRONISED, "MODEL.MTL.BALANCER.NAME", "gradnorm"), "is a synchronised .*BALANCER.NAME gradnorm one"),
        (("--num-gpus", "2", "MODEL.DEVICE", "cuda:1"), "the device is 'cuda:1', but 2 processes have one each"),
        (("--num-gpus", "2", "SOLVER.IMS_PER_BATCH", "3"), "IMS_PER_BATCH: found 3, expected a multiple of .*, 2"),
        (("--num-gpus", "2", "SOLVER.MTL.ACCUMULATE_STEPS", "2"), "ACCUMULATE_STEPS is 2, .* the 1 images"),
        ((*FLOAT16, "fp16"), "AMP_DTYPE is 'fp16'; expected one of"),
        ((*FLOAT16, "float16"), "AMP_DTYPE float16 needs a GPU"),
        (("SOLVER.MTL.MAX_BAD_STEPS", "0"), "MAX_BAD_STEPS is 0: expected 1 or more"),
        (("MODEL.MTL.BALANCER.COSINE_PERIOD", "-1"), "COSINE_PERIOD is -1: expected 0 or more"),
        (
            ("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "most"),
            "CLIP_TYPE is 'most'; expected one of",
        ),
        (("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"), "SOLVER: Unknown LR scheduler: WarmupPolyLR"),
        (("SOLVER.BASE_LR", "-1.0"), "SOLVER: Invalid learning rate: -1.0"),
        (
            ("SOLVER.MTL.OPTIMIZER", "SGD", "SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0.0"),
            "SOLVER: Nesterov momentum requires a momentum",
        ),
        (("SOLVER.MTL.PARTS.edge.STEPS", "(100)"), "PARTS.edge.STEPS is 100; expected a list of steps"),
        (("MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS", "2.0"), "CLASS_WEIGHTS is 2.0, expected a list of 4 numbers"),
        (("MODEL.MTL.NECK.NAME", "bottle"), "MODEL.MTL.NECK.NAME is 'bottle': expected one of"),
        (("MODEL.MTL.EDGE_HEAD.STRIDE", "3"), "EDGE_HEAD.STRIDE is 3: expected a divisor"),
        (("MODEL.SEM_SEG_HEAD.NAME", "Nothing"), "the network cannot be built: No object named 'Nothing'"),
        (("MODEL.FPN.FUSE_TYPE", "product"), "the network cannot be built: assert fuse_type in"),
        (("MODEL.MTL.TASKS", "['edge']", *THINNED), "UNDERSAMPLE_EMPTY: found 0.5 with the tasks"),
        (("MODEL.MTL.TASKS", "['edge']", *REPEATED), "REPEAT_THRESHOLD, .*: found 0.1, 0.0 with the tasks"),
        (SEPARATE, "SCHEDULE.FREEZE names the balancer, which separate networks do without"),
        (("--num-machines", "2"), "--dist-url auto works on one machine"),
    ],
)
def test_what_cannot_be_trained_ends_before_a_process_starts(options, sentence, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("mtl_d2.engine.command_line.launch", lambda *args, **kwargs: pytest.fail("it was started"))
    switches = options[:2] if options[0].startswith("--") else ()
    with pytest.raises(SystemExit, match=sentence):
        main([*QUICK, *switches, "MODEL.DEVICE", "cpu", *options[len(switches) :]])


def test_a_synchronised_trunk_is_for_joint_training_on_losses(monkeypatch):
    started = []
    monkeypatch.setattr("mtl_d2.engine.command_line.launch", lambda *args, **kwargs: started.append(args))
    main([*QUICK, *SYNCHRONISED[:2], "MODEL.DEVICE", "cpu", *SYNCHRONISED[2:]])
    assert started


def test_an_evaluation_does_not_ask_for_what_a_training_needs(monkeypatch):
    started = []
    monkeypatch.setattr("mtl_d2.engine.command_line.launch", lambda *args, **kwargs: started.append(args))
    main([*QUICK, "--eval-only", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *FLOAT16, "float16"])
    assert started
    with pytest.raises(SystemExit, match="names 'egde', which is no task"):
        main([*QUICK, "--eval-only", "MODEL.DEVICE", "cpu", "MODEL.MTL.TASKS", "['egde']"])


def test_an_evaluation_without_a_dataset(tmp_path):
    options = ["DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    with pytest.raises(SystemExit, match="DATASETS.TEST is empty"):
        main([*QUICK, "--eval-only", *options])
