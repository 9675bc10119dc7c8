"""Processes: errors reach the parent, and counts that cannot be are refused."""

import importlib
import multiprocessing
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessRaisedException

from mtl_d2.engine.defaults import draw_seed
from mtl_d2.engine.launch import create_ddp, launch


def _fail_on_rank_1() -> None:
    seeds = comm.all_gather(draw_seed())
    assert len(set(seeds)) == 1
    assert (comm.get_local_size(), comm.get_local_rank()) == (2, comm.get_rank())
    if comm.get_rank() == 1:
        raise KeyError("the reason")
    comm.synchronize()


@pytest.mark.slow
def test_ranks_share_a_seed_and_the_traceback_of_a_failed_one_reaches_the_parent() -> None:
    with pytest.raises(ProcessRaisedException, match=r"(?s)_fail_on_rank_1.*KeyError: 'the reason'"):
        launch(_fail_on_rank_1, 2, device="cpu")


def _note_pid_and_wait(folder: Path) -> None:
    (folder / str(comm.get_rank())).write_text(str(os.getpid()))
    time.sleep(120)


def _launch_deaf_to_interrupts(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts in the background
    launch(_note_pid_and_wait, 2, args=(folder,), device="cpu")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_processes_of_a_killed_job_end(tmp_path: Path, how: signal.Signals) -> None:
    job = multiprocessing.get_context("spawn").Process(target=_launch_deaf_to_interrupts, args=(tmp_path,))
    job.start()
    while len(pids := [int(p.read_text() or 0) for p in tmp_path.iterdir()]) < 2 or 0 in pids:
        assert job.is_alive()
        time.sleep(0.1)
    assert all(map(_is_running, pids))
    os.kill(job.pid, how)
    job.join()
    deadline = time.monotonic() + 30
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_running, pids))


def test_one_process_is_this_one() -> None:
    assert launch(lambda x: x + 1, 1, args=(1,), device="cpu") == 2


def test_torchrun_is_recognised(monkeypatch) -> None:
    from mtl_d2.engine.launch import _free_port

    variables = {
        "RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": _free_port(),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    # --num-gpus is torchrun's business then
    assert launch(torch.distributed.get_backend, 7, device="cpu") == "gloo"
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("counts", [(0, 1, 0), (1, 2, 2), (1, 0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected at least one process"):
        launch(print, *counts, device="cpu")


def test_auto_url_is_for_one_machine() -> None:
    with pytest.raises(ValueError, match="--dist-url auto works on one machine"):
        launch(print, 1, 2, 0, device="cpu")


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="MODEL.DEVICE cpu"):
        launch(print, torch.cuda.device_count() + 2, device="cuda")


def test_objects_of_a_gpu_job_wait_as_long_as_its_tensors(monkeypatch) -> None:
    made = []
    module = importlib.import_module("mtl_d2.engine.launch")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **options: made.append(options))
    monkeypatch.setattr(torch.distributed, "new_group", lambda **options: made.append(options) or "objects")
    monkeypatch.setattr(module, "_create_local_group", lambda size: None)
    monkeypatch.setattr(comm, "_get_global_gloo_group", comm._get_global_gloo_group)
    module._init_group("cuda", 0, 1, timedelta(minutes=60))
    assert [(options["backend"], options["timeout"].seconds) for options in made] == [("nccl", 3600), ("gloo", 3600)]
    assert comm._get_global_gloo_group() == "objects"


def _compressed(folder: str) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    ddp = create_ddp(model, fp16_compression=True)
    ddp(torch.full((1, 2), 1 + 2**-13)).sum().backward()
    torch.save(model.weight.grad, f"{folder}/{comm.get_rank()}.pth")


def test_detectron2s_word_for_gradients_in_float16_is_known(tmp_path: Path) -> None:
    launch(_compressed, 2, args=(str(tmp_path),), device="cpu")
    assert torch.load(tmp_path / "0.pth", weights_only=True).tolist() == [[1.0, 1.0]]  # float16 has no 1 + 2**-13
