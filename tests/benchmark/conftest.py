"""The command of the benchmarks."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command with --json; its status and the record, None if there is none."""
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("mtl_d2_test_benchmark", ROOT / "tools/benchmark.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    threads = torch.get_num_threads()
    path = tmp_path / "record.json"

    def run(*words):
        words = [words[0], "--json", str(path), *words[1:]]
        return tool.main(words), json.loads(path.read_text()) if path.exists() else None

    yield run
    torch.set_num_threads(threads)
