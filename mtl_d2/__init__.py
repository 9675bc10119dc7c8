"""mtl_d2: several answers about an image from one network, as a Detectron2 extension."""

from mtl_d2._require import env_report_requested, require_detectron2

__version__ = "0.1.0"

if (
    not env_report_requested()
):  # `python -m mtl_d2.collect_env` says what is missing, so it needs none of this
    require_detectron2()
