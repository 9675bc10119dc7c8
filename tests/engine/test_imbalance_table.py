"""tools/imbalance_table.py: what each variant sets, and that a broken call is refused."""

import runpy
import sys
from pathlib import Path

import pytest
from detectron2.modeling import build_model

from mtl_d2.engine import setup_cfg
from mtl_d2.engine.imbalance_table import NAME

TOOLS = Path(__file__).parents[2] / "tools"
CONFIG = str(TOOLS.parent / "configs" / "shapes" / "demo.yaml")


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "imbalance_table.py"))


def test_each_variant_is_a_network_for_the_rare_set_that_differs_from_the_plain_one(tool):
    plain = setup_cfg(CONFIG, tool["options"]("shapes_rare", "none", 1, 20))
    assert plain.DATASETS.TRAIN == ("shapes_rare_train",) and plain.SOLVER.MAX_ITER == 20
    assert plain.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 7
    for variant in tool["VARIANTS"]:
        cfg = setup_cfg(CONFIG, tool["options"]("shapes_rare", variant, 1, 20))
        assert (cfg == plain) == (variant == "none")
        build_model(cfg)
        assert NAME.fullmatch(f"imbalance/shapes_rare_{variant}_seed1")["variant"] == variant
    as_it_is = setup_cfg(CONFIG, tool["options"]("shapes_rare", "none", 2, None))
    assert as_it_is.SOLVER.MAX_ITER == setup_cfg(CONFIG).SOLVER.MAX_ITER


def test_the_rare_set_is_that_of_the_config(tool):
    assert tool["rare_set"](CONFIG) == "shapes_rare"
    assert tool["rare_set"](CONFIG.replace("demo", "small")) == "shapes_easy_rare"


@pytest.mark.parametrize(
    "words",
    [
        ["--iterations", "0"],
        ["--variants", "luck"],
        ["--config-file", CONFIG.replace("shapes/demo", "nuclei/cpu")],
        ["--config-file", "nowhere.yaml"],
    ],
)
def test_a_wrong_option_trains_nothing(tool, tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["imbalance_table.py", "--output", str(tmp_path), *words])
    with pytest.raises(SystemExit) as error:
        tool["main"]()
    assert error.value.code == 2 and words[1] in capsys.readouterr().err and not list(tmp_path.iterdir())
