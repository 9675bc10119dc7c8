"""Which runs a comparison takes, what tells them apart, and that the search never sees the images of val."""

from dataclasses import replace

import pytest
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from mtl_d2.comparison import ComparisonError
from mtl_d2.comparison.networks import check_networks
from mtl_d2.comparison.plan import (
    candidate_cfg,
    cfg_of,
    final_runs,
    fingerprint,
    make_run,
    run_key,
    search_runs,
    stages_of,
    trials,
)
from mtl_d2.engine import setup_cfg
from mtl_d2.engine.defaults import flat
from mtl_d2.testing import toy_dataset

from .toy import toy_comparison

SEARCH = {"folds": 3, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}, "overrides": {"SOLVER.MAX_ITER": 3}}
BOTH = {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}
NAMES = ("alone_sem_seg", "alone_edge", "both")


@pytest.fixture
def toy(tmp_path):
    with toy_comparison(tmp_path, search=SEARCH) as (comparison, _):
        yield comparison


def test_every_network_is_searched_alike_on_folds_that_never_hold_val(toy):
    runs = search_runs(toy)
    assert sorted(runs) == sorted((name, trial, fold) for name in NAMES for trial in (0, 1) for fold in (0, 1, 2))
    base = setup_cfg(toy.config)
    val = {record["file_name"] for record in DatasetCatalog.get(base.DATASETS.TEST[0])}
    held_out = []
    for (name, trial, _), run in runs.items():
        cfg = setup_cfg(run.config, run.words)
        used = {r["file_name"] for d in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) for r in DatasetCatalog.get(d)}
        assert not used & val and cfg.TEST.EVAL_PERIOD == 0 and cfg.SOLVER.MAX_ITER == run.steps == 3
        assert ((0.1, 0.2)[trial], 1) == (cfg.SOLVER.BASE_LR, cfg.SEED)
        if (name, trial) == ("both", 0):
            held_out += [r["file_name"] for r in DatasetCatalog.get(cfg.DATASETS.TEST[0])]
    assert sorted(held_out) == sorted(r["file_name"] for r in DatasetCatalog.get(base.DATASETS.TRAIN[0]))


def test_fewer_folds_may_be_held_out(toy):
    runs = search_runs(replace(toy, search=replace(toy.search, held_out=1)))
    assert sorted(runs) == sorted((name, trial, 0) for name in NAMES for trial in (0, 1))
    cfg = setup_cfg(runs["both", 0, 0].config, runs["both", 0, 0].words)
    assert "of3" in cfg.DATASETS.TRAIN[0]


def test_what_a_candidate_sets_itself_is_not_searched_for_it(toy):
    own = replace(toy.candidates[-1], overrides={"SOLVER.BASE_LR": 0.3})
    assert trials(toy, own) == [{}] and len(trials(toy, toy.candidates[0])) == 2
    assert trials(replace(toy, search=None), own) == [{}]


def test_final_runs_are_scored_on_val_and_on_as_many_training_images(toy):
    runs = final_runs(toy, {"both": {"SOLVER.BASE_LR": 0.2}})
    assert sorted(runs) == [("both", 1), ("both", 2)]
    cfg = setup_cfg(runs["both", 2].config, runs["both", 2].words)
    val, train = cfg.DATASETS.TEST
    assert len(DatasetCatalog.get(val)) == len(DatasetCatalog.get(train)) == 4
    trained_on = {record["file_name"] for record in DatasetCatalog.get(cfg.DATASETS.TRAIN[0])}
    assert {record["file_name"] for record in DatasetCatalog.get(train)} < trained_on
    assert cfg.SEED == 2 and cfg.SOLVER.BASE_LR == 0.2 and cfg.TEST.MTL.PER_IMAGE and runs["both", 2].images == 18


def test_longer_references_have_a_third_more_steps_and_later_steps_of_the_schedule(toy):
    runs = final_runs(toy, {name: {} for name in NAMES}, "longer")
    assert sorted({name for name, _ in runs}) == ["alone_edge", "alone_sem_seg"]
    cfg = setup_cfg(runs["alone_edge", 1].config, runs["alone_edge", 1].words)
    assert cfg.SOLVER.MAX_ITER == 12 and cfg.SOLVER.STEPS == (8,) and cfg.MODEL.MTL.TASKS == ["edge"]


def test_runs_of_the_same_content_have_one_key_and_others_another(toy):
    cfg = candidate_cfg(toy, toy.candidates[0])
    key = run_key(cfg, 1)
    cfg.OUTPUT_DIR = "elsewhere"
    assert run_key(cfg, 1) == key
    assert run_key(cfg, 2) != key
    for name, value in (("SEED", 7), ("SOLVER.BASE_LR", 0.5), ("DATASETS.TEST", cfg.DATASETS.TRAIN)):
        changed = cfg.clone()
        changed.merge_from_list([name, value])
        assert run_key(changed, 1) != key, name


def test_a_new_key_with_its_default_leaves_the_key_of_a_run(toy, monkeypatch):
    key = run_key(candidate_cfg(toy, toy.candidates[0]), 1)

    def later_setup_cfg(*args):
        cfg = setup_cfg(*args)
        cfg.MODEL.MTL.LATER = 3
        return cfg

    monkeypatch.setattr("mtl_d2.comparison.plan.setup_cfg", later_setup_cfg)
    cfg = candidate_cfg(toy, toy.candidates[0])
    assert cfg.MODEL.MTL.LATER == 3 and run_key(cfg, 1) == key
    cfg.MODEL.MTL.LATER = 4
    assert run_key(cfg, 1) != key


def test_weights_are_known_by_their_content(toy, tmp_path):
    cfg = candidate_cfg(toy, toy.candidates[0])
    path = str(tmp_path / "weights.pth")
    init = CfgNode({"TRUNK": [path], "NECK": [], "HEADS": {}, "NETWORKS": {}})
    of_heads = CfgNode({"TRUNK": [], "NECK": [], "HEADS": {"edge": path}, "NETWORKS": {}})
    for key, value in (("WEIGHTS", path), ("MTL.INIT", init), ("MTL.INIT", of_heads)):
        changed = cfg.clone()
        node = changed.MODEL if key == "WEIGHTS" else changed.MODEL.MTL
        node[key.rpartition(".")[2]] = value
        keys = []
        for content in (b"a", b"b", b"a"):
            (tmp_path / "weights.pth").write_bytes(content)
            keys.append(run_key(changed, 1))
        assert keys[0] == keys[2] != keys[1]


def test_a_dataset_is_known_by_its_records_and_files_and_not_by_its_place(toy, tmp_path):
    path = tmp_path / "a" / "image.png"
    prints = []
    for folder, label, size in (("a", 1, 3), ("b", 1, 3), ("a", 2, 3), ("a", 1, 4)):
        path = tmp_path / folder / "image.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        name = f"mtl_d2_toy_print_{len(prints)}"
        DatasetCatalog.register(name, lambda path=path, label=label: [{"file_name": str(path), "label": label}])
        prints.append(fingerprint(name))
        DatasetCatalog.remove(name)
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_a_dataset_that_gets_keypoints_is_the_same_to_runs_without_them():
    prints = []
    for labels in (("instance",), ("instance", "keypoint")):
        with toy_dataset(3, labels=labels) as name:
            prints.append([fingerprint(name), fingerprint(name, keypoints=True)])
    assert prints[0][0] == prints[0][1] == prints[1][0] != prints[1][1]


def test_a_dataset_whose_objects_get_areas_is_the_same_to_runs_without_keypoints():
    prints = []
    for k, area in enumerate(({}, {"area": 20.5})):
        name = f"mtl_d2_toy_areas_{k}"
        record = {"file_name": "a.png", "annotations": [{"bbox": [0, 0, 5, 5], "category_id": 0, **area}]}
        DatasetCatalog.register(name, lambda record=record: [record])
        prints.append([fingerprint(name), fingerprint(name, keypoints=True)])
        DatasetCatalog.remove(name)
    assert prints[0][0] == prints[0][1] == prints[1][0] != prints[1][1]


def test_a_run_of_several_stages_has_the_steps_of_all_and_answers_of_the_last(toy, monkeypatch):
    staged = [{"NAME": "first", "SOLVER.MAX_ITER": 4}, {"NAME": "second", "SOLVER": {"BASE_LR": 0.1}}]
    monkeypatch.setattr("mtl_d2.comparison.plan.stages_of", lambda cfg: [flat(stage) for stage in staged])
    run = final_runs(toy, {"both": {}})["both", 1]
    assert (run.steps, run.images, run.last_stage) == (4 + 9, 26, "second")
    cfg = candidate_cfg(toy, toy.candidates[0])
    monkeypatch.undo()
    assert stages_of(cfg) == [{}]


def test_images_and_data_of_a_run_are_those_of_its_stages(toy, tmp_path):
    stages = [{"NAME": "a", "SOLVER.MAX_ITER": 4}, {"NAME": "b", "SOLVER.IMS_PER_BATCH": 1}]
    both = {**toy.candidates[-1].overrides, "SEED": 1}

    def run_of(first):
        words = {**both, "SOLVER.MTL.STAGES": [{**stages[0], **first}, stages[1]]}
        return make_run(toy.config, words, "x", processes=1, threads=1)

    assert run_of({}).images == 4 * 2 + 9 * 1
    weights = tmp_path / "weights.pth"
    keys = set()
    for content in ("one", "another"):
        weights.write_text(content)
        keys.add(run_of({"MODEL": {"WEIGHTS": str(weights)}}).key)
        keys.add(run_of({"MODEL.MTL.INIT.TRUNK": [str(weights)]}).key)
    assert len(keys) == 4
    train = cfg_of(toy.config, both, "x").DATASETS.TRAIN[0]
    assert len({run_of({"DATASETS.TRAIN": (f"{train}.sample{n}",)}).key for n in (2, 3)} | {run_of({}).key}) == 3


def test_stages_keep_their_share_of_the_steps_in_shorter_and_longer_runs(toy):
    stages = [{"NAME": "a", "SOLVER.MAX_ITER": 6}, {"NAME": "b", "SOLVER": {"BASE_LR": 0.1, "STEPS": (3,)}}]
    staged = replace(toy.candidates[0], overrides={**toy.candidates[0].overrides, "SOLVER.MTL.STAGES": stages})
    comparison = replace(toy, candidates=(staged, *toy.candidates[1:]))
    short = search_runs(comparison)[staged.name, 0, 0]  # 3 steps of 9 in the search
    usual, longer = (final_runs(comparison, {staged.name: {}}, phase)[staged.name, 1] for phase in ("final", "longer"))
    assert [run.steps for run in (short, usual, longer)] == [2 + 3, 6 + 9, 8 + 12]
    assert [stages_of(setup_cfg(run.config, run.words))[1]["SOLVER.STEPS"] for run in (short, longer)] == [(1,), (4,)]
    # The same search where it has runs of all steps, and of networks without stages, as before.
    whole = replace(comparison, search=replace(comparison.search, overrides={}))
    assert search_runs(whole)[staged.name, 0, 0].steps == 6 + 9
    assert "SOLVER.MTL.STAGES" not in search_runs(comparison)["both", 0, 0].words


def test_parts_and_frozen_steps_keep_their_share_in_shorter_and_longer_runs(toy):
    freeze = [{"PART": "backbone", "FROM": 3, "TO": 9}, {"PART": "edge", "FROM": 0, "TO": -1}]
    schedule = {
        "SOLVER.MTL.SCHEDULE.FREEZE": freeze,
        **{"SOLVER.MTL.PARTS.edge.START": 3, "SOLVER.MTL.PARTS.edge.STEPS": (6,)},
        **{"SOLVER.MTL.PARTS.backbone.STOP": 9, "SOLVER.WARMUP_ITERS": 2},
    }
    one = replace(toy.candidates[0], overrides={**toy.candidates[0].overrides, **schedule})
    comparison = replace(toy, candidates=(one, *toy.candidates[1:]))
    short = search_runs(comparison)[one.name, 0, 0]  # 3 steps of 9 in the search
    usual, longer = (final_runs(comparison, {one.name: {}}, phase)[one.name, 1] for phase in ("final", "longer"))
    found = []
    for run in (short, usual, longer):
        solver = setup_cfg(run.config, run.words).SOLVER
        (frozen, whole), parts = solver.MTL.SCHEDULE.FREEZE, solver.MTL.PARTS
        assert (whole["FROM"], whole["TO"], parts.backbone.START, parts.edge.STOP, solver.WARMUP_ITERS) == (
            0,
            -1,
            0,
            -1,
            2,
        )
        steps = [*solver.STEPS, *parts.edge.STEPS]
        found.append([solver.MAX_ITER, *steps, frozen["FROM"], frozen["TO"], parts.edge.START, parts.backbone.STOP])
    assert found == [[3, 2, 2, 1, 3, 1, 3], [9, 6, 6, 3, 9, 3, 9], [12, 8, 8, 4, 12, 4, 12]]
    searched = replace(comparison, search=replace(comparison.search, values={"SOLVER.STEPS": [(1,), (2,)]}))
    for number, step in enumerate((1, 2)):
        run = search_runs(searched)[one.name, number, 0]
        solver = setup_cfg(run.config, run.words).SOLVER
        assert list(solver.STEPS) == [step]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"references": {"two": {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}}}, "found sem_seg, edge, expected one task"),
        ({"references": {"edge": {"MODEL.MTL.TASKS": ["edge"]}}}, "both is scored by sem_seg/mIoU for 'sem_seg', of"),
        ({"joint": {"both": {"MODEL.MTL.TASK": ["edge"]}}}, "did you mean MODEL.MTL.TASKS"),
        ({"joint": {"both": {"MODEL.MTL.BALANCER.NAME": "none"}}}, "both: "),
        ({"joint": {"both": {**BOTH, "SOLVER.MTL.SCHEDULE.NAME": "altrnating"}}}, "both: .*NAME is 'altrnating'"),
        ({"processes": 3}, "IMS_PER_BATCH: found 2, expected a multiple"),
        (
            {"search": {**SEARCH, "overrides": {"SOLVER.MAX_ITER": 0}}},
            "search: alone_sem_seg: SOLVER.MAX_ITER is 0; expected at least 1 step",
        ),
        (
            {
                "search": SEARCH,
                "joint": {"both": {**BOTH, "SOLVER.MTL.STAGES": [{"NAME": "a", "SOLVER.BASE_LR": 0.3}]}},
            },
            "both: SOLVER.MTL.STAGES, stage 'a': SOLVER.BASE_LR is searched, but a stage keeps its own",
        ),
        ({"config": "missing.yaml"}, "missing.yaml does not exist"),
        ({"overrides": {"DATASETS.TEST": []}}, "DATASETS.TEST: found none, a comparison has one"),
    ],
)
def test_networks_that_cannot_be_compared_are_a_sentence(tmp_path, changes, sentence):
    with toy_comparison(tmp_path, **changes) as (comparison, _), pytest.raises(ComparisonError, match=sentence):
        check_networks(comparison)


def test_stages_of_the_base_config_leave_data_and_evaluation_to_the_comparison(tmp_path):
    with toy_comparison(tmp_path) as (comparison, _):
        config = yaml.safe_load((tmp_path / "base.yaml").read_text())
        config["SOLVER"]["MTL"] = {"STAGES": [{"NAME": "a", "TEST": {"EVAL_PERIOD": 2}}]}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(ComparisonError, match="stage 'a': TEST.EVAL_PERIOD is set by the comparison itself"):
            check_networks(comparison)


def test_the_metric_of_each_task_is_that_of_its_reference(toy):
    assert [(m.task, m.name) for m in check_networks(toy)] == [("sem_seg", "sem_seg/mIoU"), ("edge", "edge/ODS")]


def test_a_task_without_a_metric_needs_no_reference(tmp_path):
    coupled = {
        "MODEL.MTL.TASKS": ["sem_seg", "edge", "edge_coupling"],
        "MODEL.SEM_SEG_HEAD.NAME": "MultiTaskSemSegFPNHead",
    }
    with toy_comparison(tmp_path, joint={"coupled": coupled}) as (comparison, _):
        assert [m.task for m in check_networks(comparison)] == ["sem_seg", "edge"]
