"""Every change made to Detectron2 v0.6, as a table of exact text replacements, and what applies it."""

from typing import NamedTuple


class Patch(NamedTuple):
    """Replace `old` by `new` in each file of `where`, {path: how often `old` occurs there}."""

    why: str
    old: str
    new: str
    where: dict[str, int]


NO_EXTENSION = "the compiled detectron2._C is not in the source distribution: import it only where it is used"
NUMPY_ALIASES = "numpy >= 1.24 has no np.int, np.float, np.str (nor, before 2.0, np.bool)"
NO_PKG_RESOURCES = "setuptools >= 82 has no pkg_resources"
CHANGED_NOTE = "\n# Changed from upstream's v0.6: see third_party/detectron2/patches.py of mtl_d2.\n"

DEFORM_CONV = """\
def deform_conv(
    input, offset, weight, stride=1, padding=0, dilation=1, groups=1, deformable_groups=1, im2col_step=64
):  # torchvision infers groups and deformable_groups from the shapes
    return deform_conv2d(input, offset, weight, stride=stride, padding=padding, dilation=dilation)


def modulated_deform_conv(
    input, offset, mask, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, deformable_groups=1
):
    return deform_conv2d(
        input, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )
"""

FAST_COCO_EVAL = """\
try:
    from faster_coco_eval import COCOeval_faster as COCOeval_opt  # the same figures, compiled
except ImportError:
    COCOeval_opt = COCOeval
"""

PATCHES = (
    # --- no compiled extension
    Patch(
        NO_EXTENSION,
        "from detectron2 import _C\n\n\ndef",
        "def",
        {"detectron2/layers/rotated_boxes.py": 1},
    ),
    Patch(
        NO_EXTENSION,
        "    return _C.box_iou_rotated",
        "    from detectron2 import _C\n\n    return _C.box_iou_rotated",
        {"detectron2/layers/rotated_boxes.py": 1},
    ),
    Patch(
        NO_EXTENSION,
        "from detectron2 import _C\n\n\nclass",
        "class",
        {"detectron2/layers/roi_align_rotated.py": 1},
    ),
    Patch(
        NO_EXTENSION,
        "        output = _C.",
        "        from detectron2 import _C\n\n        output = _C.",
        {"detectron2/layers/roi_align_rotated.py": 1},
    ),
    Patch(
        NO_EXTENSION,
        "        grad_input = _C.",
        "        from detectron2 import _C\n\n        grad_input = _C.",
        {"detectron2/layers/roi_align_rotated.py": 1},
    ),
    Patch(
        NO_EXTENSION,
        "from detectron2 import _C\n\n",
        "",
        {"detectron2/layers/deform_conv.py": 1},
    ),
    Patch(
        "without detectron2._C, deformable convolution is torchvision's (with autograd, on CPU and GPU)",
        "deform_conv = _DeformConv.apply\nmodulated_deform_conv = _ModulatedDeformConv.apply\n",
        DEFORM_CONV,
        {"detectron2/layers/deform_conv.py": 1},
    ),
    Patch(
        "without detectron2._C, COCO evaluation is faster-coco-eval's where installed, else pycocotools'",
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
        FAST_COCO_EVAL,
        {"detectron2/evaluation/coco_evaluation.py": 1},
    ),
    # --- torch
    Patch(
        "torch >= 2.0: schedulers derive from LRScheduler; isinstance(x, _LRScheduler) is silently False",
        "torch.optim.lr_scheduler._LRScheduler",
        "torch.optim.lr_scheduler.LRScheduler",
        {
            "detectron2/engine/hooks.py": 2,
            "detectron2/solver/build.py": 1,
            "detectron2/solver/lr_scheduler.py": 4,
            "detectron2/projects/deeplab/build_solver.py": 1,
            "detectron2/projects/deeplab/lr_scheduler.py": 1,
        },
    ),
    Patch(
        "torch >= 2.0: clip_grad_value_ raises for a parameter without a gradient",
        "                    per_param_clipper(p)",
        "                    if p.grad is not None:\n                        per_param_clipper(p)",
        {"detectron2/solver/build.py": 1},
    ),
    Patch(
        "torch >= 1.10 warns when meshgrid is called without indexing",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        {"detectron2/modeling/anchor_generator.py": 1},
    ),
    Patch(
        "torch no longer ships caffe2: keep the rest of detectron2.export importable",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ImportError:\n    pass\n",
        {"detectron2/export/__init__.py": 1},
    ),
    # --- numpy
    Patch(
        NUMPY_ALIASES,
        "np.bool)",
        "bool)",
        {
            "detectron2/evaluation/pascal_voc_evaluation.py": 2,
            "detectron2/structures/masks.py": 3,
            "detectron2/utils/visualizer.py": 3,
            "detectron2/utils/video_visualizer.py": 1,
        },
    ),
    Patch(
        NUMPY_ALIASES,
        "np.int)",
        "int)",
        {"detectron2/evaluation/sem_seg_evaluation.py": 2, "detectron2/data/build.py": 1},
    ),
    Patch(
        NUMPY_ALIASES,
        "np.int\n",
        "int\n",
        {"detectron2/data/build.py": 1},
    ),
    Patch(
        NUMPY_ALIASES,
        "np.float)",
        "float)",
        {"detectron2/evaluation/sem_seg_evaluation.py": 5},
    ),
    Patch(
        NUMPY_ALIASES,
        "np.str)",
        "str)",
        {"detectron2/data/datasets/pascal_voc.py": 1},
    ),
    # --- Pillow, setuptools, Python
    Patch(
        "Pillow >= 10 has no Image.LINEAR",
        "Image.LINEAR",
        "Image.BILINEAR",
        {"detectron2/data/transforms/transform.py": 1},
    ),
    Patch(
        NO_PKG_RESOURCES,
        "import pkg_resources\n",
        "from importlib import resources\n",
        {"detectron2/model_zoo/model_zoo.py": 1},
    ),
    Patch(
        NO_PKG_RESOURCES,
        'pkg_resources.resource_filename(\n        "detectron2.model_zoo", os.path.join("configs", config_path)\n    )',
        'str(resources.files("detectron2.model_zoo").joinpath("configs", config_path))',
        {"detectron2/model_zoo/model_zoo.py": 1},
    ),
    Patch(
        "Python >= 3.11: random.sample needs a sequence, not a set",
        "self._rng.sample(self._fallback_candidates, k=1)",
        "self._rng.sample(list(self._fallback_candidates), k=1)",
        {"detectron2/data/common.py": 1},
    ),
)


def apply(files: dict[str, bytes], table: tuple[Patch, ...] = PATCHES) -> None:
    """Change `files` ({path: content}) in place, patch after patch, and mark each changed file as changed.

    Raises:
        ValueError: a file is missing, or a text does not occur in it exactly as often as the table says.
    """
    changed = set()
    for patch in table:
        for path, expected in patch.where.items():
            if path not in files:
                raise ValueError(f"{path}: missing, but has a patch ({patch.why}); correct the patch table")
            text = files[path].decode()
            found = text.count(patch.old)
            if found != expected:
                raise ValueError(
                    f"{path}: {patch.old!r} occurs {found} times, expected {expected} ({patch.why}); "
                    "correct the patch table"
                )
            files[path] = text.replace(patch.old, patch.new).encode()
            changed.add(path)
    for path in changed:
        files[path] += CHANGED_NOTE.encode()
