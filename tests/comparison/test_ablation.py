"""A table of networks: read, trained once, written; wrong descriptions are told before anything is trained."""

import itertools
import json
from pathlib import Path

import pytest
import yaml

from mtl_d2.comparison import AblationRuns, ComparisonError, new_ablation_findings, read_ablation, render_ablation
from mtl_d2.comparison.ablation_page import render_ablations
from mtl_d2.comparison.costs import Cost
from mtl_d2.comparison.plan import to_words
from mtl_d2.data.datasets.shapes import RARE_SCHEMA
from mtl_d2.engine import setup_cfg
from mtl_d2.engine.defaults import flat
from mtl_d2.engine.record import write_json
from mtl_d2.engine.trial_network import build_trial

from .toy import main_of, started, toy_comparison

ROOT = Path(__file__).resolve().parents[2]
EDGE = {"MODEL.MTL.TASKS": ["edge"]}
VARIANTS = {
    "sem_seg": {"MODEL.MTL.TASKS": ["sem_seg"]},
    "edge": {"config": "edge.yaml", **EDGE},
    "fast edge": {**EDGE, "SOLVER.BASE_LR": 2.0},
}


@pytest.fixture
def described(tmp_path):
    """A function that writes a description over the toy config, and reads it; and the runs' folder."""
    with toy_comparison(tmp_path) as (_, runs):
        test = yaml.safe_load((tmp_path / "base.yaml").read_text())["DATASETS"]["TEST"]

        def write(**changes):
            values = {"title": "Toys", "config": "base.yaml", "seeds": [1, 2], "variants": VARIANTS, **changes}
            values = {key: value for key, value in values.items() if value is not None}
            values["overrides"] = {"DATASETS.TEST": test, **values.get("overrides", {})}  # the trainer reads its words
            (tmp_path / "toys.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
            return read_ablation(tmp_path / "toys.yaml")

        (tmp_path / "edge.yaml").write_text("_BASE_: base.yaml\nMODEL: {MTL: {TASKS: [edge]}}\n")
        yield write, runs


def _findings(found, failed, costs=None):
    return json.loads(json.dumps(new_ablation_findings(found, costs or {}, failed, ["tools/ablate.py", "toys.yaml"])))


def test_each_is_trained_once_and_stands_in_a_row(described, tmp_path):
    write, runs = described
    found = AblationRuns(write(), runs, only=["sem_seg", "edge"])
    assert found.carry_out() == [] and found.carry_out() == []
    assert started(tmp_path) == ["sem_seg_seed_1", "edge_seed_1", "sem_seg_seed_2", "edge_seed_2"]
    page = render_ablation(_findings(found, []))
    head, _, sem_seg, edge = (line.split(" | ") for line in page.splitlines() if line.startswith("|"))
    assert head[1:3] == ["mIoU", "edge ODS"]
    assert sem_seg[0] == "| sem_seg" and sem_seg[1] == "52.5 ± 0.7" and sem_seg[-1].startswith("1, 2")
    assert edge[0] == "| edge" and edge[2] == "0.505 ± 0.007"
    assert "Without a finished run: fast edge." in page and "/" not in page.split("configs ")[1].split(",")[0]


def test_a_run_that_fails_leaves_the_others_and_is_named(described, tmp_path):
    write, runs = described
    (tmp_path / "runs" / "fail").write_text("edge_seed_1")
    found = AblationRuns(write(seeds=[1]), runs)
    assert sorted(found.carry_out()) == ["edge seed 1", "fast edge seed 1"]
    findings = _findings(found, ["edge seed 1"])
    assert list(findings["variants"]["sem_seg"]["records"]) == ["1"] and not findings["variants"]["edge"]["records"]
    page = render_ablation(findings)
    assert "Failed: edge seed 1. Without a finished run: edge, fast edge." in page and "several commits" not in page
    record = findings["variants"]["sem_seg"]["records"]["1"]
    findings["variants"]["edge"]["records"]["1"] = {**record, "commit": "another"}
    assert "The runs are of several commits" in render_ablation(findings)


def test_what_differs_from_the_config_is_another_run(described):
    write, runs = described
    first = AblationRuns(write(), runs).planned
    longer = AblationRuns(write(overrides={"SOLVER.MAX_ITER": 99}), runs).planned
    assert longer["edge", 1].steps == 99 and longer["edge", 1].key != first["edge", 1].key
    assert len({run.key for run in first.values()}) == len(first) == 6
    by_name = AblationRuns(write(variants={"edge": "edge.yaml"}), runs).planned
    assert by_name["edge", 1].key == first["edge", 1].key and by_name["edge", 1].config.endswith("edge.yaml")


def test_costs_and_undefined_figures_are_printed(described, tmp_path):
    write, runs = described
    found = AblationRuns(write(), runs, only=["edge"])
    found.carry_out()
    cost = Cost(parameters=1234, flops=5.6e9, milliseconds=7.0)
    findings = new_ablation_findings(found, {"edge": cost}, [], ["x"])
    findings["variants"]["edge"]["records"]["1"]["results"]["edge"]["ODS"] = float("nan")
    write_json(tmp_path / "record.json", findings)
    page = render_ablations({"toys": json.loads((tmp_path / "record.json").read_text())})
    assert page.startswith("\n## Toys\n")
    assert "| edge | 1,234 | 5.60 | 7.0 | 1 | 0.510 (1 of 2) |" in page  # the mean of what is defined


def test_columns_are_chosen_and_costs_that_were_not_measured_have_none(described):
    write, runs = described
    both = {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}
    columns = {"both": ["edge/ODS", "sem_seg/mIoU"], "edges": "edge/ODS", "typo": "edge/OSD"}
    found = AblationRuns(write(columns=columns, variants={"edge": EDGE, "all": both}, seeds=[1]), runs)
    found.carry_out()
    page = render_ablation(_findings(found, []))
    head, _, edge, everything = (line for line in page.splitlines() if line.startswith("|"))
    assert head == "|  | both | edges | typo | steps | seeds |" and "Inference" not in page
    assert "No run has the figures of: typo." in page
    assert edge == "| edge |  | 0.500 |  | 4 | 1 |" and everything == "| all | 26.250 | 0.500 |  | 4 | 1 |"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": {"AP": "AP"}}, r"toys\.yaml: columns\.AP: found a str, 'AP', expected a figure of the runs"),
        ({"columns": {"AP": []}}, r"columns\.AP: found a list, \[\], expected a figure"),
        ({"columns": {"AP": ["segm/AP", 3]}}, r"columns\.AP: found a list, \['segm/AP', 3\], expected a figure"),
        ({"variants": {}}, r"toys\.yaml: 'variants' is empty"),
        ({"title": None}, r"toys\.yaml: no 'title'; add it"),
        ({"variants": {"edge": 3}}, r"variants\.edge: found a int, 3, expected config keys"),
        (
            {"variants": {"edge": {"config": 3}}},
            r"variants\.edge\.config: found a int, 3, expected the name of a config",
        ),
        ({"variants": {"edge": {"SEED": 3}}}, r"variants\.edge: SEED is set by the comparison itself"),
        ({"variants": {"edge": {"MODEL.MTL.TASK": []}}}, r"toys: edge: .*MODEL\.MTL\.TASK"),
        ({"variants": {"edge": "nowhere.yaml"}}, r"toys: edge: .*nowhere\.yaml does not exist"),
        (
            {"variants": {"a": {"MODEL.MTL.TASKS": ["sem_seg"], "MODEL.SEM_SEG_HEAD.NAME": "NoHead"}}},
            r"toys: a: .*NoHead",
        ),
    ],
)
def test_a_wrong_description_is_one_sentence(described, changes, sentence):
    write, runs = described
    with pytest.raises(ComparisonError, match=sentence):
        AblationRuns(write(**changes), runs)
    with pytest.raises(ComparisonError, match="--only none: no such network in toys: sem_seg, edge, fast edge"):
        AblationRuns(write(), runs, only=["none"])


def test_the_command_lists_what_it_would_run_and_refuses_in_a_sentence(described, tmp_path, capsys, monkeypatch):
    described[0](seeds=[1])
    main = main_of("ablate", monkeypatch)
    assert main([str(tmp_path / "toys.yaml"), "--output", str(tmp_path), "--dry-run"]) == 0
    assert "3 of 3 runs to do, 0 done" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere.yaml")]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err
    assert main([str(tmp_path / "toys.yaml"), "--rounds", "1"]) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "configs/ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_variants_are_networks_that_differ(path):
    variants = read_ablation(path).variants
    cfgs = [setup_cfg(variant.config, to_words(variant.overrides)) for variant in variants]
    for cfg in cfgs:
        build_trial(cfg)
    contents = [{**flat(cfg), "OUTPUT_DIR": ""} for cfg in cfgs]
    assert variants and all(a != b for a, b in itertools.combinations(contents, 2))


def test_the_table_of_a_rare_class_has_every_class():
    columns = read_ablation(ROOT / "configs/ablations/imbalance.yaml").columns
    shown = {name for names in columns.values() for name in names}
    assert shown == {
        *(f"{group}/AP-{name}" for group in ("bbox", "segm") for name in RARE_SCHEMA.thing_classes),
        *(f"sem_seg/IoU-{name}" for name in RARE_SCHEMA.stuff_classes),
    }
    assert all(("cross" in title) == (len(names) == 1) for title, names in columns.items())
