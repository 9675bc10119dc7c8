"""tools/edge_ablation.py and its table: the leaves that it trains, the cells, and that a broken call is refused."""

import dataclasses
import runpy
import sys
from pathlib import Path

import pytest

from mtl_d2.engine import setup_cfg
from mtl_d2.engine.edge_ablation_table import HEADER, NAME, ablation_rows
from mtl_d2.engine.record import RunRecord, write_record
from mtl_d2.engine.results_page import render, render_summary
from mtl_d2.losses import EDGE_LOSSES
from mtl_d2.modeling.edge import FPNEdgeHead, HEDEdgeHead, LightEdgeHead

TOOLS = Path(__file__).parents[2] / "tools"
RECORD = RunRecord(
    results={"edge": {"ODS": 0.8, "OIS": 0.81, "AP": 0.7}},
    images={"edge": 30},
    config="configs/edges/head_fpn.yaml",
    overrides=[],
    command="python tools/train_net.py",
    commit="0123456789abcdef",
    dirty=False,
    device="cpu",
    torch="2.15.0",
    detectron2="0.6",
    seed=1,
    iterations=700,
    seconds={"train": 90.0, "eval": 1.0},
    peak_memory_mib=None,
    skipped_images={},
    finished="2026-01-02T03:04:05+00:00",
    parameters={"backbone": 1000, "edge": 12345},
)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "edge_ablation.py"))


def test_every_head_and_every_loss_is_a_variant_that_differs_in_it_alone(tool):
    cfgs = {variant: setup_cfg(str(tool["CONFIGS"] / f"{variant}.yaml")) for variant in tool["VARIANTS"]}
    plain = cfgs["head_fpn"]
    assert plain.MODEL.MTL.TASKS == ["edge"] and plain.MODEL.MTL.EDGE_HEAD.LOSS == "hed"
    assert plain.SOLVER.MTL.BEST_METRIC == "edge/ODS"
    heads = {cfg.MODEL.MTL.EDGE_HEAD.NAME for cfg in cfgs.values()}
    assert {cls.__name__ for cls in (FPNEdgeHead, HEDEdgeHead, LightEdgeHead)} <= heads
    assert {cfg.MODEL.MTL.EDGE_HEAD.LOSS for cfg in cfgs.values()} == set(EDGE_LOSSES)
    for variant, cfg in cfgs.items():
        assert NAME.fullmatch(f"edge_ablation/{variant}_seed12")["variant"] == variant
        kind, other = ("NAME", "LOSS") if variant.startswith("head") else ("LOSS", "NAME")
        assert cfg.MODEL.MTL.EDGE_HEAD[other] == plain.MODEL.MTL.EDGE_HEAD[other]
        cfg.MODEL.MTL.EDGE_HEAD[kind], cfg.OUTPUT_DIR = plain.MODEL.MTL.EDGE_HEAD[kind], plain.OUTPUT_DIR
        assert cfg == plain


def test_a_run_has_the_steps_and_the_seed_asked_for(tool):
    config = str(tool["CONFIGS"] / "head_fpn.yaml")
    assert setup_cfg(config, tool["options"](3, 20)).SOLVER.MAX_ITER == 20
    as_it_is = setup_cfg(config, tool["options"](3, None))
    assert as_it_is.SOLVER.MAX_ITER == setup_cfg(config).SOLVER.MAX_ITER and as_it_is.SEED == 3


def _records():
    better = {"edge": {"ODS": 0.9, "OIS": 0.91, "AP": 0.8, "ODS_half": 0.6}}
    return {
        "edge_ablation/loss_dice_seed1": dataclasses.replace(RECORD, parameters={}),
        "edge_ablation/head_fpn_seed1": RECORD,
        "edge_ablation/head_fpn_seed2": dataclasses.replace(RECORD, results=better, seed=2, seconds={"train": 92.0}),
    }


def test_a_line_per_config_with_mean_and_deviation_and_a_dash_for_what_is_absent():
    rows = [dict(zip(HEADER, row, strict=True)) for row in ablation_rows(_records())]
    assert rows[0] == {
        "config": "head_fpn",
        "ODS": "0.850 ± 0.071",
        "OIS": "0.860 ± 0.071",
        "AP": "0.750 ± 0.071",
        "ODS, half tolerance": "0.600",
        "ODS, crisp": "-",
        "head's parameters": "12,345",
        "seeds": "1, 2",
        "steps": "700",
        "train s": "91",
    }
    assert rows[1]["config"] == "loss_dice" and rows[1]["ODS"] == "0.800" and rows[1]["head's parameters"] == "-"


def test_the_page_has_the_table_once_and_the_summary_has_none_of_it():
    page = render(_records() | {"shapes/edge": RECORD})
    assert page.count("## Edge heads and edge losses") == 1 and "| head_fpn | 0.850 ± 0.071 |" in page
    assert "## edge_ablation" not in page and "edge_ablation/head_fpn_seed2 (700 iterations" in page
    assert "edge_ablation" not in render_summary(_records())


@pytest.mark.parametrize("words", [["--steps", "0"], ["--processes", "-1"], ["--variants", "luck"]])
def test_a_wrong_option_trains_nothing(tool, tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["edge_ablation.py", "--output", str(tmp_path), *words])
    with pytest.raises(SystemExit) as error:
        tool["main"]()
    assert error.value.code == 2 and words[1] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_fails_is_named_and_what_succeeds_is_told(tool, tmp_path, monkeypatch, capsys):
    def train(output, options, config, *, processes):
        if Path(config).stem == "head_hed":
            return False
        output.mkdir(parents=True)
        write_record(output / "report.json", RECORD)
        return True

    monkeypatch.setitem(tool["main"].__globals__, "train_once", train)
    argv = ["edge_ablation.py", "--output", str(tmp_path), "--variants", "head_fpn", "head_hed"]
    monkeypatch.setattr(sys, "argv", argv)
    assert tool["main"]() == 1
    told = capsys.readouterr()
    assert "0.800" in told.out and "head_fpn" in told.out and "head_hed_seed1/console.txt" in told.err
