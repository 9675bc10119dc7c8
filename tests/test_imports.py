"""Who may import whom, and that an import does nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mtl_d2"

# room -> rooms it may import; "modeling", "data" and "evaluation" never import each other
ALLOWED = {
    "config": set(),
    "structures": set(),
    "losses": set(),
    "balancing": set(),
    "modeling": {"losses", "structures"},
    "data": {"structures"},
    "evaluation": {"structures"},
    "tasks": {"modeling", "losses", "structures", "evaluation"},
    "meta_arch": {"tasks", "modeling", "balancing", "structures"},
    "separate_networks": {"tasks", "meta_arch", "modeling"},
    "visualization": {"structures"},
    "benchmark": {"balancing", "data", "engine", "evaluation", "structures", "tasks", "testing"},
    "comparison": {"benchmark", "data", "engine", "evaluation", "tasks", "visualization"},
    "collect_env": {"_require"},
    "_require": set(),
    "_orphans": set(),
    "predictor": {"data", "engine", "evaluation", "meta_arch", "separate_networks", "structures", "visualization"},
    "testing": {"config", "data", "structures"},
    "engine": {
        "balancing", "config", "data", "evaluation", "meta_arch", "modeling", "separate_networks", "structures",
        "tasks", "visualization",
    },
}  # fmt: skip
ANYWHERE = {"_orphans"}  # of the standard library alone


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    """Rooms of mtl_d2 that a file imports, at its top or inside functions."""
    package = ("mtl_d2", *path.relative_to(PACKAGE).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = base + (node.module.split(".") if node.module else [])
            targets = [[*stem, alias.name] for alias in node.names]
        else:
            continue
        rooms |= {target[1] for target in targets if target[0] == "mtl_d2" and len(target) > 1}
    return rooms - {_room(path)} - {"__version__"}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if _room(p) != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path):
    room = _room(path)
    assert room in ALLOWED, f"{path.name} stands in a room that this test does not know"
    assert _imported_rooms(path) <= ALLOWED[room] | ANYWHERE


def test_what_may_be_imported_anywhere_needs_the_standard_library_alone():
    for room in ANYWHERE:
        tree = ast.parse((PACKAGE / f"{room}.py").read_text())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert names and {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
        assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


@pytest.mark.parametrize("room", ["structures", "losses"])
def test_leaf_packages_need_no_detectron2(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert "detectron2" not in path.read_text().replace("mtl_d2", ""), path


def test_the_package_never_imports_its_testing_module_but_to_measure():
    users = [p for p in PACKAGE.rglob("*.py") if "testing" in _imported_rooms(p) and _room(p) != "benchmark"]
    assert users == []


def test_import_registers_everything_and_reads_no_dataset(tmp_path):
    code = (
        "import os; os.environ['DETECTRON2_DATASETS'] = 'does/not/exist'\n"
        "import mtl_d2\n"
        "from detectron2.data import DatasetCatalog\n"
        "from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY\n"
        "from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY\n"
        "META_ARCH_REGISTRY.get('MultiTaskFPN'); SEM_SEG_HEADS_REGISTRY.get('MultiTaskSemSegFPNHead')\n"
        "PROPOSAL_GENERATOR_REGISTRY.get('MultiTaskRPN'); ROI_HEADS_REGISTRY.get('MultiTaskROIHeads')\n"
        "assert 'shapes_train' in DatasetCatalog.list() and 'nuclei_val' in DatasetCatalog.list()\n"
    )
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": "", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
