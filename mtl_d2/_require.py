"""What must be true before the rest of the package can be imported. Standard library only."""

import sys

MISSING = (
    "mtl_d2 needs Detectron2, which is not installed: install upstream's "
    "(https://detectron2.readthedocs.io/tutorials/install.html), or, in a clone of mtl_d2, run "
    "`pip install ./third_party/detectron2`"
)


def env_report_requested() -> bool:
    """Whether this process is `python -m mtl_d2.collect_env`, which must answer without Detectron2 too."""
    command = sys.orig_argv  # sys.argv[0] is only "-m" while a package is imported for -m
    return any(pair == ("-m", "mtl_d2.collect_env") for pair in zip(command, command[1:], strict=False))


def require_detectron2() -> None:
    """Raise where Detectron2 is missing; an installed one that fails to import raises its own error.

    Raises:
        ImportError: with how to install it. It is no requirement of the package, because nobody owns its
            name on the package index.
    """
    try:
        import detectron2  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise
        raise ImportError(MISSING, name="detectron2") from error
