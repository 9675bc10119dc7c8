"""From the command line to a config, and the errors on the way."""

from pathlib import Path

import pytest

from mtl_d2.engine.command_line import main
from mtl_d2.engine.defaults import check_supported, draw_seed, setup_cfg


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_its_base_and_the_command_line_are_merged_in_this_order(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "SOLVER: {BASE_LR: 1.0, GAMMA: 0.5, MAX_ITER: 7}")
    leaf = write(tmp_path / "leaf.yaml", "_BASE_: base.yaml\nSOLVER: {BASE_LR: 2.0, GAMMA: 0.25}")
    solver = setup_cfg(leaf, ["SOLVER.GAMMA", "0.125"]).SOLVER
    assert (solver.MAX_ITER, solver.BASE_LR, solver.GAMMA) == (7, 2.0, 0.125)


def test_an_unknown_key_is_named_with_the_near_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "MODEL: {MTL: {TASK: [edge]}}")
    with pytest.raises(ValueError, match=r"a.yaml sets MODEL.MTL.TASK, which is not a config key: .*MODEL.MTL.TASKS"):
        setup_cfg(path)
    with pytest.raises(ValueError, match=r"the command line sets SOLVER.BASE_LRR.*SOLVER.BASE_LR"):
        setup_cfg("", ["SOLVER.BASE_LRR", "1"])


def test_a_task_of_ones_own_can_be_weighed_by_file_and_by_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "MODEL: {MTL: {BALANCER: {WEIGHTS: {depth: 0.5}}}}")
    weights = setup_cfg(path, ["MODEL.MTL.BALANCER.WEIGHTS.normals", "0.25"]).MODEL.MTL.BALANCER.WEIGHTS
    assert (weights.depth, weights.normals) == (0.5, 0.25)


def test_yaml_that_builds_objects_is_not_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    write(tmp_path / "base.yaml", f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{trap}']")
    path = write(tmp_path / "leaf.yaml", "_BASE_: base.yaml")
    with pytest.raises(ValueError, match=r"leaf.yaml \(or its _BASE_\) holds a tag that builds Python objects"):
        setup_cfg(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.BASE_LR=1"], "not a list of KEY VALUE pairs"),
        (["SOLVER.STEPS", "fast"], "the command line sets SOLVER.STEPS fast"),
    ],
)
def test_wrong_options_are_named(opts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setup_cfg("", opts)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="--config-file nowhere.yaml does not exist"):
        setup_cfg("nowhere.yaml")


def test_what_is_not_done_is_refused() -> None:
    with pytest.raises(ValueError, match="TEST.AUG.ENABLED is True"):
        check_supported(setup_cfg("", ["TEST.AUG.ENABLED", "True", "MODEL.DEVICE", "cpu"]))


def test_a_drawn_seed_is_drawn_once_for_a_run_and_its_resumptions(tmp_path: Path) -> None:
    first = draw_seed()
    assert first >= 0
    assert first != draw_seed()
    write(tmp_path / "config.yaml", f"SEED: {first}")
    assert draw_seed(str(tmp_path)) != first  # nothing to resume there
    write(tmp_path / "last_checkpoint", "model_0000001.pth")
    assert draw_seed(str(tmp_path)) == first


def test_a_mixture_that_cannot_be_ends_the_command_with_a_sentence() -> None:
    words = ["--config-file", "configs/quick/mixing.yaml", "DATALOADER.MTL.TASK_RATIOS.edge", "1.2"]
    with pytest.raises(SystemExit, match="TASK_RATIOS.edge: found 1.2, expected a share of the images"):
        main(words)
