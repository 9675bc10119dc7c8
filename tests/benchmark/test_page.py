"""What RESULTS.md says about speed."""

from mtl_d2.benchmark.equality import Check
from mtl_d2.benchmark.page import render_section
from mtl_d2.benchmark.report import Findings, compare, write_findings
from mtl_d2.engine.record import read_json_folder


def test_a_row_for_each_comparison_and_its_command(tmp_path):
    seconds = {"joint": [3.0, 3.0, 6.0], "first": [2.0, 2.0, 2.0], "second": [2.0, 2.0, 4.0]}
    comparisons = [
        compare("step", seconds, images=6, flops={"joint": 6, "first": 4, "second": 8}, goal=1.0),
        compare("answer", {"joint": [2.0, 2.0], "first": [1.0, 1.0]}, images=6),
    ]
    check = Check(name="answers", difference=0.0, tolerance=1e-5)
    findings = Findings(device="cpu", rounds=3, seed=0, setting={}, checks=[check], comparisons=comparisons)
    write_findings(
        tmp_path / "joint_cpu.json", "joint", findings, ["tools/benchmark.py", "joint"], ("0123456789", True)
    )
    page = render_section(read_json_folder(tmp_path))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "joint_cpu |" in line]
    assert [row[:3] for row in rows] == [
        ["joint_cpu", "step", "joint / first + second"],
        ["joint_cpu", "answer", "joint / first"],
    ]
    assert rows[0][3].startswith("0.750 [") and rows[0][4:7] == ["0.500", "1.00 met", "3"]
    assert rows[1][3:6] == ["2.000 [2.000, 2.000]", "", ""]
    assert "joint_cpu (commit 012345678*" in page and "`python tools/benchmark.py joint`" in page


def test_no_record_is_no_section(tmp_path):
    assert render_section(read_json_folder(tmp_path / "none")) == ""
