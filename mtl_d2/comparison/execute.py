"""Runs the trainings that are not there yet, each in a process of its own."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ..engine.record import RunRecord, read_record, write_json
from .plan import Run

CONSOLE, USAGE, LOCK = "console.txt", "usage.json", ".lock"
POLL_SECONDS = 0.5


@dataclass
class Runs:
    """The folder of a comparison's trainings, one folder each, and what runs in it now.

    folder: gets ``<label>-<key>/`` with report.json, console.txt and usage.json of each run.
    command: that trains, before its options: an interpreter and a script such as tools/train_net.py.
    """

    folder: Path
    command: Sequence[str]
    _children: set[subprocess.Popen] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def place(self, run: Run) -> Path:
        """The folder of a run: an earlier one of the same key, whatever it was called."""
        found = sorted(self.folder.glob(f"*-{run.key}"))
        return found[0] if found else self.folder / f"{re.sub(r'[^A-Za-z0-9_.]+', '_', run.label)}-{run.key}"

    def record(self, run: Run) -> RunRecord | None:
        """The record of a run that was trained and scored on all its test sets; None of any other."""
        path = self.place(run) / "report.json"
        try:
            record = read_record(path)
        except (OSError, ValueError):
            return None
        several = len(run.test_sets) > 1
        scored = {group.rpartition("/")[0] for group in record.results} if several else {"" for _ in record.results}
        return record if scored == (set(run.test_sets) if several else {""}) else None

    def peak_memory_mib(self, run: Run) -> float | None:
        """The largest resident memory of a process of the run, None where it is not known; on a GPU see the record."""
        path = self.place(run) / USAGE
        return json.loads(path.read_text())["peak_rss_mib"] if path.is_file() else None

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """The runs without a record, each once."""
        unique: dict[str, Run] = {}
        for run in runs:
            unique.setdefault(run.key, run)
        return [run for run in unique.values() if self.record(run) is None]

    def execute(self, runs: Iterable[Run], jobs: int = 1, title: str = "") -> list[Run]:
        """Run what is missing, ``jobs`` beside each other; return those that failed, while the others went on.

        A run that was interrupted goes on from its last checkpoint. One that another process trains, or a training
        whose own parent was killed, is waited for.
        """
        missing, failed = self.missing(runs), []
        if not missing:
            return []
        with (
            tqdm(total=sum(run.steps for run in missing), desc=title, unit="step", disable=None) as progress,
            ThreadPoolExecutor(jobs) as pool,
        ):
            try:
                futures = {pool.submit(self._train, run): run for run in missing}
                for future in as_completed(futures):
                    run = futures[future]
                    if not future.result():
                        failed.append(run)
                        progress.write(f"{run.label} failed: see {self.place(run) / CONSOLE}", file=sys.stderr)
                    progress.set_postfix_str(run.label, refresh=False)
                    progress.update(run.steps)
            except BaseException:
                self.stop()
                raise
        return failed

    def stop(self) -> None:
        """End what runs, and start no more; what was reached is kept."""
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.terminate()

    @staticmethod
    def _wait(child: subprocess.Popen) -> float:
        """Wait for the end; the peak memory on the way, in MiB."""
        peak = 0.0
        while True:
            peak = max(peak, _peak_resident_mib(child.pid))
            try:
                child.wait(POLL_SECONDS)
                return peak
            except subprocess.TimeoutExpired:
                continue

    def _train(self, run: Run) -> bool:
        output = self.place(run)
        with self._folder(output) as lock:
            if lock is not None and self.record(run) is not None:  # another process was faster
                return True
            child = None if lock is None else self._start(run, output, lock)
            if child is None:
                return False
            peak = self._wait(child)
        with self._lock:
            self._children.discard(child)
        if peak:
            write_json(output / USAGE, {"peak_rss_mib": max(peak, self.peak_memory_mib(run) or 0.0)})
        return child.returncode == 0 and self.record(run) is not None

    @contextmanager
    def _folder(self, output: Path) -> Iterator[IO | None]:
        """The run's folder for this process alone, once no other trains in it; None where all is stopped before."""
        if self._stopped:
            yield None
            return
        output.mkdir(parents=True, exist_ok=True)
        with open(output / LOCK, "w") as lock:
            waits = False
            while not (locked := _try_lock(lock)) and not self._stopped:
                if not waits:
                    tqdm.write(f"{output}: waiting for another process, which trains there.", file=sys.stderr)
                waits = True
                time.sleep(POLL_SECONDS)
            yield lock if locked else None

    def _start(self, run: Run, output: Path, lock: IO) -> subprocess.Popen | None:
        """Begin the training; None where all is stopped.

        It holds the lock for as long as it lives, whatever becomes of this process.
        """
        words = ["--num-gpus", str(run.processes), "--config-file", run.config, "--resume"]
        words += ["OUTPUT_DIR", str(output), *run.words]
        environment = {**os.environ, "OMP_NUM_THREADS": str(run.threads)}
        with self._lock, open(output / CONSOLE, "a") as console:
            if self._stopped:
                return None
            child = subprocess.Popen(
                [*self.command, *words], stdout=console, stderr=console, env=environment, pass_fds=[lock.fileno()]
            )
            self._children.add(child)
        return child


def _try_lock(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _peak_resident_mib(pid: int) -> float:
    """The most memory that the process, or one below it, ever had; 0 where the system does not tell.

    Not ru_maxrss: on Linux that of a child begins with what its parent had when it was started.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = re.search(r"VmHWM:\s+(\d+) kB", status)
    return max([float(own[1]) / 2**10 if own else 0.0, *(_peak_resident_mib(int(child)) for child in children)])


def estimated_seconds(runs: Runs, planned: Sequence[Run], missing: Sequence[Run]) -> float | None:
    """What the missing runs would take one after the other, at the pace of those that are done; None without any."""
    done = [(run.steps, record.seconds) for run in planned if (record := runs.record(run))]
    if not done:
        return None
    pace = sum(seconds["train"] + seconds["eval"] for _, seconds in done) / sum(steps for steps, _ in done)
    return pace * sum(run.steps for run in missing)
