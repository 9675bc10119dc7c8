"""`python -m mtl_d2.collect_env`: what mtl_d2 runs on here, and what to do about what is missing.

Nothing of the package that needs Detectron2 is imported, so that the table also comes where an import fails.
"""

import importlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from types import ModuleType

from mtl_d2 import __version__
from mtl_d2._require import MISSING

SHAPES_FOLDERS = ("shapes", "shapes_easy", "shapes_rare", "shapes_easy_rare")
DATASET_FOLDERS = (*SHAPES_FOLDERS, "nuclei", "coco_mini", "coco", "cityscapes")
NO_TORCHVISION = "install torchvision, which brings the torch that it was built for: `pip install torchvision`"
NO_NMS = "torch and torchvision are of different builds: uninstall both, then `pip install torchvision`"
NO_COMPILED = "no: without it rotated boxes fail where they are used (mtl_d2 uses none)"


def main() -> int:
    """Print the table; 1 where something is missing that mtl_d2 cannot do without, else 0."""
    rows, problems = collect()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for problem in problems:
        print(f"to do: {problem}")
    return int(bool(problems))


def collect() -> tuple[list[tuple[str, str]], list[str]]:
    """The rows (name, value) of the table, and one sentence for each thing that must be put right."""
    problems: list[str] = []
    rows = [
        ("mtl_d2", _describe_mtl_d2()),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_torch_rows(problems),
        *_detectron2_rows(problems),
        ("numpy", _version("numpy")),
        ("opencv", _describe_opencv()),
        ("pycocotools", _version("pycocotools")),
        ("faster-coco-eval", f"{_version('faster-coco-eval')} (optional: the same COCO figures, faster)"),
        *_dataset_rows(),
    ]
    return rows, problems


def _describe_mtl_d2() -> str:
    folder = Path(__file__).resolve().parent
    commit = _git(folder.parent, "rev-parse", "--short=12", "HEAD") if (folder.parent / ".git").exists() else ""
    if not commit:
        return f"{__version__} in {folder}"
    changed = " with changes" if _git(folder.parent, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{__version__} in {folder}, commit {commit}{changed}"


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; "" where git is missing or fails."""
    try:
        answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _torch_rows(problems: list[str]) -> list[tuple[str, str]]:
    torch, reason = _import("torch")
    if torch is None:
        problems.append(NO_TORCHVISION)
        return [("torch", reason)]
    rows = [
        ("torch", f"{torch.__version__}, {_describe_devices(torch)}"),
        ("bfloat16", _describe_bf16(torch)),
    ]
    torchvision, reason = _import("torchvision")
    if torchvision is None:
        problems.append(NO_TORCHVISION if reason == "missing" else NO_NMS)
        return [*rows, ("torchvision", reason)]
    try:
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
        nms = "nms runs"
    except (AttributeError, RuntimeError) as error:
        nms = f"nms fails: {_first_line(error)}"
        problems.append(NO_NMS)
    return [*rows, ("torchvision", f"{torchvision.__version__}, {nms}")]


def _describe_devices(torch: ModuleType) -> str:
    threads = f"{torch.get_num_threads()} CPU threads"
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU only"
        return f"{build}, no CUDA device, {threads}"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"CUDA {torch.version.cuda} on {', '.join(names)}, {threads}"


def _describe_bf16(torch: ModuleType) -> str:
    """How bfloat16 runs; the CPU's flags come through functions that torch keeps private."""
    flags = [
        name
        for name, function in (
            ("AVX512_BF16", "_is_avx512_bf16_supported"),
            ("AMX", "_is_amx_tile_supported"),
        )
        if getattr(torch.cpu, function, lambda: False)()
    ]
    capability = torch.backends.cpu.get_cpu_capability()
    cpu = f"CPU in hardware ({', '.join(flags)})" if flags else f"CPU without hardware support seen ({capability})"
    if not torch.cuda.is_available():
        return cpu
    return f"GPU {'yes' if torch.cuda.is_bf16_supported() else 'no'}; {cpu}"


def _detectron2_rows(problems: list[str]) -> list[tuple[str, str]]:
    detectron2, reason = _import("detectron2")
    if detectron2 is None:
        problems.append(MISSING if reason == "missing" else "see why Detectron2 fails: `python -c 'import detectron2'`")
        return [("detectron2", reason)]
    version = _version("detectron2")
    source = "the wheel of third_party/detectron2" if "+mtl" in version else "upstream's"
    if version == "missing":
        version, source = detectron2.__version__, "not installed, found on the path"
    compiled, reason = _import("detectron2._C")
    return [
        ("detectron2", f"{version}, {source}, in {Path(str(detectron2.__file__)).parent}"),
        ("detectron2._C", "yes" if compiled else NO_COMPILED if reason == "missing" else reason),
    ]


def _describe_opencv() -> str:
    cv2, reason = _import("cv2")  # several distributions provide it
    return reason if cv2 is None else cv2.__version__


def _dataset_rows() -> list[tuple[str, str]]:
    setting = os.environ.get("DETECTRON2_DATASETS")
    folder = Path(setting or "datasets").expanduser()
    if not folder.is_dir():
        found = "no such folder"
    else:
        found = ", ".join(name for name in DATASET_FOLDERS if (folder / name).is_dir())
        found = found or f"none of {', '.join(DATASET_FOLDERS)}"
    return [
        ("DETECTRON2_DATASETS", setting or f"not set: {folder.resolve()}"),
        ("datasets there", found),
    ]


def _import(name: str) -> tuple[ModuleType | None, str]:
    """The module, or None and why: "missing", or the first line of what its import raised."""
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError as error:
        return None, "missing" if error.name == name else f"import fails: {_first_line(error)}"
    except Exception as error:  # a broken binary raises RuntimeError, OSError, AttributeError, ...
        return None, f"import fails: {_first_line(error)}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    raise SystemExit(main())
