"""The launch scripts: the command lines that come out, with stand-ins for SLURM, torchrun and Python."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT, SMALL

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")

PRINT_WORDS = 'for word in "$0" "$@"; do printf "[%s]" "${word##*/}"; done; echo'
# Runs the command once per machine of the job, as srun does.
SRUN = """
printf '[srun %s %s]\\n' "$1" "$2"; shift 2
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do SLURM_NODEID=$node "$@"; done
"""
JOB = {
    "SLURM_JOB_NODELIST": "gpu[7-8]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_ID": "123456",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "64",
    "SLURM_SUBMIT_DIR": str(ROOT),
}


@pytest.fixture
def stand_ins(tmp_path: Path) -> str:
    scripts = {"python": PRINT_WORDS, "torchrun": PRINT_WORDS, "srun": SRUN}
    scripts["scontrol"] = '[ "$*" = "show hostnames gpu[7-8]" ] && printf "gpu7\\ngpu8\\n"'
    for name, body in scripts.items():
        (tmp_path / name).write_text(f"#!{BASH}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return str(tmp_path)


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_slurm_starts_one_task_per_machine_with_one_address(run, stand_ins) -> None:
    words = ["--config-file", "my config.yaml", "SOLVER.BASE_LR", "0.1"]
    shown = lines(run("examples/slurm_train.sh", *words, PATH=stand_ins, **JOB))
    common = (
        "[--num-machines][2][--num-gpus][4][--dist-url][gpu7:23456][--config-file][my config.yaml][SOLVER.BASE_LR][0.1]"
    )
    assert shown == [
        "[srun --cpus-per-task 64]",
        f"[python][train_net.py][--machine-rank][0]{common}",
        f"[python][train_net.py][--machine-rank][1]{common}",
    ]


def test_slurm_goes_on_from_the_checkpoint_when_a_job_is_started_again(run, stand_ins) -> None:
    shown = run("examples/slurm_train.sh", "--config-file", "a.yaml", PATH=stand_ins, SLURM_RESTART_COUNT="1", **JOB)
    assert shown.count("[gpu7:23456][--resume][--config-file][a.yaml]") == 2


def test_slurm_outside_of_a_job_is_refused(run, stand_ins) -> None:
    assert "submit this file with sbatch" in run("examples/slurm_train.sh", PATH=stand_ins, check=False)


def test_slurm_options_of_sbatch_are_at_the_top() -> None:
    text = (ROOT / "examples" / "slurm_train.sh").read_text()
    head = text.split("set -euo pipefail")[0]
    assert text.count("\n#SBATCH --") == head.count("\n#SBATCH --") == 8


def test_torchrun_on_one_machine_takes_a_free_port(run, stand_ins) -> None:
    shown = run("examples/torchrun_train.sh", "--config-file", "a.yaml", PATH=stand_ins, NPROC="3")
    assert lines(shown) == ["[torchrun][--standalone][--nproc-per-node][3][train_net.py][--config-file][a.yaml]"]


def test_torchrun_on_several_machines_meets_at_one_address(run, stand_ins) -> None:
    variables = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "node0"}
    shown = run("examples/torchrun_train.sh", "--resume", PATH=stand_ins, **variables)
    meeting = "[--nnodes][2][--node-rank][1][--master-addr][node0][--master-port][29500]"
    assert lines(shown) == [f"[torchrun]{meeting}[--nproc-per-node][8][train_net.py][--resume]"]
    del variables["MASTER_ADDR"]
    refused = run("examples/torchrun_train.sh", PATH=stand_ins, check=False, **variables)
    assert "MASTER_ADDR is not set: the host name" in refused


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize("name", ["slurm_train.sh", "torchrun_train.sh"])
def test_scripts_are_executable_and_parse(name) -> None:
    path = ROOT / "examples" / name
    assert path.stat().st_mode & 0o111
    subprocess.run([str(BASH), "-n", str(path)], check=True)


@pytest.mark.slow
def test_torchrun_trains_on_two_processes(run, tmp_path: Path) -> None:
    config = ["--config-file", "configs/quick/shapes.yaml", *SMALL, "OUTPUT_DIR", tmp_path]
    run("examples/torchrun_train.sh", *config, NPROC="2", OMP_NUM_THREADS="1")
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["iterations"] == 2 and record["images"]["edge"] == 2
