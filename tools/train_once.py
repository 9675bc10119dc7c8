"""For tables of several trainings: a run whose record is complete is not repeated."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_d2.engine.record import portable_word, read_record

ROOT = Path(__file__).resolve().parents[1]


def is_complete(record: Path, options: list[str]) -> bool:
    """Whether a run with these KEY VALUE pairs was trained and scored."""
    if not record.is_file():
        return False
    run = read_record(record)
    return bool(run.results) and run.overrides[2:] == [portable_word(word) for word in options]  # after OUTPUT_DIR


def train_once(output: Path, options: list[str], config: str, *, threads: int = 1, processes: int = 1) -> bool:
    """Train unless the record is complete; whether it is afterwards."""
    if is_complete(output / "report.json", options):
        print(f"{output}: kept", flush=True)
        return True
    print(f"{output}: training", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--num-gpus", str(processes)]
    command += ["--config-file", config, "OUTPUT_DIR", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(output / "console.txt", "w") as console:
        done = subprocess.run(command + options, check=False, stdout=console, stderr=subprocess.STDOUT, env=environment)
    return done.returncode == 0


def exit_status(failed: Sequence[Path]) -> int:
    """1 where a training failed, with its console on stderr; else 0."""
    if failed:
        print(f"failed, see {', '.join(map(str, failed))}", file=sys.stderr)
    return int(bool(failed))
