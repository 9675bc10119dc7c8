"""The workers of a pool whose process was killed end too."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mtl_d2.evaluation.edge_pool import ScoringPool

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")


def _note_pid(folder: Path, seconds: float) -> None:
    (folder / str(os.getpid())).touch()
    assert _wait_until(lambda: len(os.listdir(folder)) >= 2)  # a call for each worker
    time.sleep(seconds)
    (folder / f"{os.getpid()}.done").touch()


def _score(folder: Path, seconds: float) -> None:
    pool = ScoringPool(2)
    for number in range(2):
        pool.submit(str(number), _note_pid, folder, seconds)
    time.sleep(120)


def _is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(condition) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("seconds", [120, 0], ids=["in a call", "waiting for one"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_scores(tmp_path: Path, how: signal.Signals, seconds: float) -> None:
    job = multiprocessing.get_context("fork").Process(target=_score, args=(tmp_path, seconds))
    job.start()
    try:
        assert _wait_until(lambda: len(os.listdir(tmp_path)) == (2 if seconds else 4))
        workers = [name for name in os.listdir(tmp_path) if name.isdigit()]
        assert all(map(_is_running, workers))
    finally:
        os.kill(job.pid, how)
        job.join()
    assert _wait_until(lambda: not any(map(_is_running, workers)))
