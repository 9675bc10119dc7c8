"""TEST.MTL: how answers are scored."""

from detectron2.config import CfgNode as CN


def add_scores(cfg: CN) -> None:
    cfg.TEST.MTL = CN()
    cfg.TEST.MTL.PER_IMAGE = False  # evaluators write what a bootstrap over images needs, inference/*/per_image/*.npz
    # Boundary AP of masks (segm/boundary_AP) and Boundary IoU of classes (sem_seg/boundary_IoU): from inner bands of
    # this width, a fraction of the image's diagonal: 0.02, on Cityscapes 0.005; 0 leaves both out. They cost half a
    # millisecond for each mask that overlaps an object, and 15 ms for each megapixel of a semantic map.
    cfg.TEST.MTL.BOUNDARY_WIDTH = 0.0
    _add_edge_scores(cfg.TEST.MTL)


def _add_edge_scores(test: CN) -> None:
    edge = test.EDGE = CN()  # as the BSDS benchmark scores
    edge.MAX_DIST = 0.0075  # matching radius, as a fraction of the image's diagonal
    edge.NMS = True  # maps are suppressed to their ridges first
    edge.THIN = True  # the binary map of each threshold is thinned
    edge.THRESHOLDS = 99  # k / (THRESHOLDS + 1), k = 1 .. THRESHOLDS
    edge.HALF_TOLERANCE = False  # ODS_half beside it: at half of MAX_DIST; as dear as the first
    edge.CRISP = False  # ODS_crisp beside it: of the maps as they are, without NMS and thinning; twice as dear
