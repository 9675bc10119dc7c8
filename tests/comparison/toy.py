"""A comparison on a toy dataset, and a trainer that writes records instead of training."""

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

from mtl_d2.comparison import Runs, read_comparison
from mtl_d2.testing import toy_dataset

# Scores that depend on task, learning rate and seed; semantics have 2 more on training images, and 0.26 more where the
# steps are changed, as of a longer reference. Exit status 3 where the file "fail" names the run's folder.
TRAINER = """
import json, pathlib, sys
words = sys.argv[sys.argv.index("OUTPUT_DIR"):]
keys = dict(zip(words[::2], words[1::2]))
folder = pathlib.Path(keys["OUTPUT_DIR"])
with open(folder.parent / "log.txt", "a") as log:
    print(folder.name, file=log)
fail = folder.parent / "fail"
if fail.exists() and fail.read_text() in folder.name:
    print("no luck")
    sys.exit(3)
tests = eval(keys["DATASETS.TEST"])
seed, rate = int(keys["SEED"]), float(keys.get("SOLVER.BASE_LR", 0.1))
tasks = eval(keys.get("MODEL.MTL.TASKS", "['sem_seg', 'edge']"))
scores = {"sem_seg": ("mIoU", 50 + seed + 10 * rate), "edge": ("ODS", 0.5 + 0.01 * seed - 0.1 * rate)}
def score(test, task):
    more = 2 * (".sample" in test) + 0.26 * ("SOLVER.MAX_ITER" in keys)
    return {scores[task][0]: scores[task][1] + (more if task == "sem_seg" else 0)}
results = {f"{test}/{task}" if len(tests) > 1 else task: score(test, task) for test in tests for task in tasks}
record = dict(results=results, images={}, config="", overrides=[], command="", commit="abc", dirty=False, device="cpu",
              torch="", detectron2="", seed=seed, iterations=4, seconds={"train": 2.0, "eval": 1.0},
              peak_memory_mib=None, skipped_images={}, finished="2026-01-01")
(folder / "report.json").write_text(json.dumps(record))
"""


@contextmanager
def toy_comparison(folder, **changes):
    """A comparison whose runs take no time, and the folder that they leave."""
    with toy_dataset(6, labels=["sem_seg", "edge"], edge_source="semantic") as train, toy_dataset(4) as val:
        config = {
            "VERSION": 2,
            "MODEL": {"META_ARCHITECTURE": "MultiTaskFPN", "DEVICE": "cpu", "WEIGHTS": ""},
            "DATASETS": {"TRAIN": [train], "TEST": [val]},
            "SOLVER": {"MAX_ITER": 9, "STEPS": [6], "IMS_PER_BATCH": 2},
        }
        config["MODEL"] |= {
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 0},
            "RESNETS": {"DEPTH": 18, "OUT_FEATURES": ["res2"], "RES2_OUT_CHANNELS": 64},
            "FPN": {"IN_FEATURES": ["res2"], "OUT_CHANNELS": 32},
            "SEM_SEG_HEAD": {"IN_FEATURES": ["p2"], "NUM_CLASSES": 4, "CONVS_DIM": 32},
            "MTL": {"EDGE_HEAD": {"IN_FEATURES": ["p2"]}},
        }
        (folder / "base.yaml").write_text(yaml.safe_dump(config))
        described = {
            "config": "base.yaml",
            "seeds": [1, 2],
            "references": {
                "alone_sem_seg": {"MODEL.MTL.TASKS": ["sem_seg"]},
                "alone_edge": {"MODEL.MTL.TASKS": ["edge"]},
            },
            "joint": {"both": {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}},
            "search": "none",
            **changes,
        }
        (folder / "toy.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        yield read_comparison(folder / "toy.yaml"), toy_runs(folder)


def toy_runs(folder):
    """The runs' folder with the trainer that does not train."""
    (folder / "trainer.py").write_text(TRAINER)
    (folder / "runs").mkdir(exist_ok=True)
    return Runs(folder / "runs", [sys.executable, "-S", str(folder / "trainer.py")])


def started(folder):
    """Names of the runs that were started, in order."""
    log = folder / "runs" / "log.txt"
    return [name.rpartition("-")[0] for name in log.read_text().split()] if log.exists() else []


def main_of(tool, monkeypatch):
    """``main`` of a script in tools/; the signal handlers of the tests stay."""
    path = Path(__file__).resolve().parents[2] / "tools" / f"{tool}.py"
    spec = importlib.util.spec_from_file_location(f"mtl_d2_test_{tool}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "end_on_sigterm", lambda: None)
    return module.main
