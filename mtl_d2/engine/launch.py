"""Start the processes of a job, on GPUs (nccl) and on CPUs (gloo), by ourselves or under torchrun."""

import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from .._orphans import end_with_parent

DEFAULT_TIMEOUT = timedelta(minutes=60)  # an evaluation on rank 0 keeps the other ranks waiting
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launch(  # noqa: PLR0917 - the signature of Detectron2's
    main: Callable[..., Any],
    num_processes_per_machine: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: Sequence[Any] = (),
    *,
    device: str | None = None,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Call ``main(*args)`` in every process of the job; the return value is that of a job of one process.

    Under torchrun (RANK, WORLD_SIZE, LOCAL_RANK in the environment) the processes exist already: this one
    joins their group and calls ``main`` once. Detectron2's ``comm`` works inside ``main`` in every case.

    Args:
        num_processes_per_machine: one per GPU, or as many as wanted on a CPU.
        dist_url: such as ``tcp://host:port``; "auto" takes a free port of this machine.
        args: picklable, as ``main`` is: the processes are spawned.
        device: "cpu" (gloo) or "cuda" (nccl); None takes CUDA where there is a GPU.

    Raises:
        ValueError: for a number of processes that the machines cannot have.
        torch.multiprocessing.ProcessRaisedException: with the traceback of the first process that failed.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    device = place.type
    if _is_under_torchrun():
        return _run_under_torchrun(main, args, device, timeout)
    check_launch(num_processes_per_machine, num_machines, machine_rank, str(place), dist_url)
    world_size = count_processes(num_processes_per_machine, num_machines)
    if world_size == 1:
        if device == "cuda" and place.index is not None:  # the one whose memory and time are measured, too
            torch.cuda.set_device(place)
        return main(*args)
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    mp.spawn(
        _worker,
        nprocs=num_processes_per_machine,
        args=(
            main,
            world_size,
            num_processes_per_machine,
            machine_rank,
            dist_url,
            tuple(args),
            device,
            timeout,
        ),
    )
    return None


def create_ddp(model: nn.Module, **kwargs: Any) -> nn.Module:
    """Wrap ``model`` in DistributedDataParallel, on a CPU too; a job of one process gets the model back.

    Every loss of ours is attached to its head's parameters in every step, so unused parameters are not
    searched for.
    """
    if comm.get_world_size() == 1:
        return model
    kwargs = {"broadcast_buffers": False, "find_unused_parameters": False, **kwargs}
    in_float16 = kwargs.pop("fp16_compression", False)  # Detectron2's word, in the train.ddp of a LazyConfig
    if next(model.parameters()).is_cuda:
        kwargs.setdefault("device_ids", [torch.cuda.current_device()])
    ddp = DistributedDataParallel(model, **kwargs)
    if in_float16:
        ddp.register_comm_hook(None, fp16_compress_hook)
    return ddp


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def share_buffers(module: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, which checkpoints hold: DDP does not keep batch norms equal."""
    if comm.get_world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def _is_under_torchrun() -> bool:
    return all(name in os.environ for name in _TORCHRUN_VARIABLES)


def count_processes(num_processes: int, num_machines: int) -> int:
    """Of the whole job, as :func:`launch` starts them or torchrun has."""
    return int(os.environ["WORLD_SIZE"]) if _is_under_torchrun() else num_processes * num_machines


def check_launch(num_processes: int, num_machines: int, machine_rank: int, device: str, dist_url: str) -> None:
    """Raise ValueError for processes that the machines cannot have or that cannot meet; see :func:`launch`."""
    if _is_under_torchrun():  # which has started them
        return
    if num_processes < 1 or num_machines < 1 or not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"found {num_processes} processes a machine, {num_machines} machines and machine rank "
            f"{machine_rank}: expected at least one process and machine, and a rank from 0 to machines - 1."
        )
    if torch.device(device).index is not None and num_processes * num_machines > 1:
        raise ValueError(
            f"the device is {device!r}, but {num_processes * num_machines} processes have one each: leave its number "
            "out (CUDA_VISIBLE_DEVICES chooses)."
        )
    if torch.device(device).type == "cuda" and num_processes > max(torch.cuda.device_count(), 1):
        raise ValueError(
            f"--num-gpus {num_processes}, but this machine shows {torch.cuda.device_count()} GPUs: ask "
            "for fewer, or add MODEL.DEVICE cpu (train.device=cpu for a LazyConfig) to run the processes "
            "on the CPU."
        )
    if num_machines > 1 and dist_url == "auto":
        raise ValueError("--dist-url auto works on one machine; give all machines one URL such as tcp://HOST:PORT.")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _worker(  # noqa: PLR0917 - spawn passes positions
    local_rank: int,
    main: Callable[..., Any],
    world_size: int,
    processes_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    device: str,
    timeout: timedelta,
) -> None:
    # torch sends SIGINT, which a process started in the background of a shell ignores, and which waits for the end of
    # a collective that will never come.
    end_with_parent()
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes_per_machine))
    rank = machine_rank * processes_per_machine + local_rank
    _init_group(
        device,
        local_rank,
        processes_per_machine,
        timeout,
        init_method=dist_url,
        world_size=world_size,
        rank=rank,
    )
    main(*args)
    dist.destroy_process_group()


def _run_under_torchrun(main: Callable[..., Any], args: Sequence[Any], device: str, timeout: timedelta) -> Any:
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    _init_group(device, int(os.environ["LOCAL_RANK"]), local_size, timeout, init_method="env://")
    result = main(*args)
    dist.destroy_process_group()
    return result


def _init_group(device: str, local_rank: int, local_size: int, timeout: timedelta, **group: Any) -> None:
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend="nccl" if device == "cuda" else "gloo", timeout=timeout, **group)
    if device == "cuda":
        # Objects are gathered over gloo, where ranks wait for the scoring of others: its own timeout is half as long.
        objects = dist.new_group(backend="gloo", timeout=timeout)
        comm._get_global_gloo_group = lambda: objects
    _create_local_group(local_size)
    comm.synchronize()


def _create_local_group(local_size: int) -> None:
    """Tell Detectron2's ``comm`` which ranks are on this machine; main has a function for it, 0.6 none."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for first in range(0, dist.get_world_size(), local_size):
        ranks = list(range(first, first + local_size))
        group = dist.new_group(ranks)  # every rank must take part in the making of every group
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
