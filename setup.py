"""Packaging of mtl_d2. Detectron2 is deliberately not a requirement: see README.md, "Install"."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """`__version__` of mtl_d2/__init__.py, read as text because importing it needs Detectron2."""
    text = (HERE / "mtl_d2" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('mtl_d2/__init__.py: no line such as __version__ = "0.1.0"; add one')
    return match.group(1)


setup(
    name="mtl_d2",
    version=read_version(),
    description="Multi-task learning (instances, semantics, edges) on one FPN, as a Detectron2 extension",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["mtl_d2", "mtl_d2.*"]),
    package_data={"mtl_d2": ["py.typed"]},
    # Never detectron2: nobody owns that name on the package index. mtl_d2 checks for it when it is imported.
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "Pillow>=9.5",
        "opencv-python-headless>=4.9",
        "scipy>=1.11",
        "shapely>=2.0",
        "pycocotools>=2.0.7",
        "fvcore>=0.1.5",
        "tqdm>=4.60",
    ],
    extras_require={
        "balance": ["torchjd[cagrad,nash_mtl,quadprog_projector]>=0.18,<0.19"],
        "fast": ["faster-coco-eval>=1.8"],
        "dev": ["pytest>=8", "pytest-timeout>=2.3", "scikit-image>=0.22", "ruff>=0.6", "mypy>=1.11"],
    },
)
