"""The command: equality is asserted, timed afterwards, and told by the exit status."""

import pytest
import torch

from mtl_d2.benchmark import BENCHMARKS, joint, parity

COMPARED = {"joint": ["training step", "inference"], "parity": ["training step", "inference", "postprocessing"]}
EVERY_COMPARISON = {
    *("name", "numerator", "denominator", "ratio", "flop_floor"),
    *("goal", "images", "seconds", "peak_memory_mib"),
}


@pytest.mark.parametrize("benchmark", COMPARED)
def test_equal_networks_are_timed(run, capsys, benchmark):
    status, record = run(benchmark, "--quick", "--device", "cpu")
    assert status == 0 and record["equal"]
    assert record["benchmark"] == benchmark and record["device"].startswith("cpu") and record["threads"] == 1
    assert all(check["difference"] <= check["tolerance"] for check in record["checks"])
    assert [c["name"].partition(",")[0] for c in record["comparisons"]] == COMPARED[benchmark]
    for comparison in record["comparisons"]:
        assert comparison.keys() == EVERY_COMPARISON
        assert comparison["goal"] is None and comparison["peak_memory_mib"] is None
        assert comparison["ratio"]["low"] <= comparison["ratio"]["value"] <= comparison["ratio"]["high"]
        assert all(len(seconds) == 2 for seconds in comparison["seconds"].values())
        assert set(comparison["seconds"]) == {comparison["numerator"], *comparison["denominator"]}
    floors = [comparison["flop_floor"] for comparison in record["comparisons"]]
    if benchmark == "joint":
        assert all(0.3 < floor < 0.8 for floor in floors)
        names = ("Mask R-CNN", "SemanticSegmentor", "edge alone")
        assert record["parameters"]["sum of the three"] == sum(record["parameters"][name] for name in names)
    else:
        assert floors == [1.0, 1.0, None]
    assert "80, 80" in record["setting"]["detections per image"]
    assert "FLOP floor" in capsys.readouterr().out


@pytest.mark.parametrize(("module", "broken"), [(joint, "Mask R-CNN"), (joint, "edge alone"), (parity, "")])
def test_networks_that_differ_end_with_1_and_are_not_timed(run, monkeypatch, capsys, module, broken):
    copy_weights = module.copy_weights

    def copy_all_but_one(source, target):
        copy_weights(source, target)
        is_broken = hasattr(target, "roi_heads") if broken == "Mask R-CNN" else hasattr(target, "edge_head")
        if is_broken or not broken:
            next(p for p in target.parameters() if p.requires_grad).data.mul_(2)

    monkeypatch.setattr(module, "copy_weights", copy_all_but_one)
    (benchmark,) = (name for name, known in BENCHMARKS.items() if known is module)
    status, record = run(benchmark, "--quick", "--device", "cpu")
    assert status == 1 and record["equal"] is False and record["comparisons"] == []
    different = {c["name"] for c in record["checks"] if c["difference"] is None or c["difference"] > c["tolerance"]}
    if broken:
        assert different == {f"answers of {broken}", f"losses of {broken}", "gradients, and the sums of theirs"}
    else:
        assert different == {"answers", "losses"}
    assert "Nothing was timed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rounds", "1"), "--rounds 1: expected 2 or more"),
        (("--size", "8", "480"), "--size 8 480: expected 32 or more"),
        (("--batch-sizes", "0"), "--batch-sizes 0: expected 1 or more"),
        (("--config-file", "no.yaml"), "no.yaml does not exist"),
        (("MODEL.MTL.CHANNELS_LSAT", "True"), "did you mean MODEL.MTL.CHANNELS_LAST"),
    ],
)
def test_wrong_input_ends_with_2_and_one_sentence(run, capsys, words, message):
    status, record = run("joint", "--device", "cpu", *words)
    assert status == 2 and record is None
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_no_gpu_is_said(run, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("joint", "--device", "cuda") == (2, None)
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("benchmark", COMPARED)
def test_on_a_gpu_under_bfloat16_with_peak_memory(run, benchmark):
    status, record = run(benchmark, "--quick", "--device", "cuda")
    assert status == 0 and "bfloat16" in record["setting"]["device"]
    assert record["device"] == torch.cuda.get_device_name()
    networks = [c for c in record["comparisons"] if not c["name"].startswith("postprocessing")]
    assert [c["images"] for c in networks] == [2, 2, 8, 8]
    for comparison in networks:
        peaks = comparison["peak_memory_mib"]
        assert all(peak > 0 for peak in peaks.values())
        if benchmark == "joint":
            assert peaks["joint"] < sum(peaks[name] for name in comparison["denominator"])
