"""INPUT.MTL and DATALOADER.MTL: labels, augmentations, and which images a batch has."""

from detectron2.config import CfgNode as CN


def add_input(cfg: CN) -> None:
    cfg.INPUT.MTL = CN()
    cfg.INPUT.MTL.VERTICAL_FLIP_PROB = 0.0  # beside INPUT.RANDOM_FLIP: for images without an up, as in microscopy
    cfg.INPUT.MTL.SCALE_TEST = 0.0  # resize test images by this factor, whatever their size; 0 for INPUT.MIN_SIZE_TEST
    cfg.INPUT.MTL.INVERT_PROB = 0.0  # chance that an image's intensities are inverted (255 - x)

    # What the labels of whole images are made from: "given", or the classes in "instances" or "sem_seg" as augmented.
    cfg.INPUT.MTL.IMAGE_LABELS = "given"

    # Labels follow the image in each of these.
    lsj = cfg.INPUT.MTL.LSJ = CN()  # large-scale jitter, in the place of INPUT.MIN_SIZE_TRAIN
    lsj.ENABLED = False
    lsj.MIN_SCALE = 0.1  # an image is resized to fit into SIZE times a factor between these two
    lsj.MAX_SCALE = 2.0
    lsj.SIZE = [1024, 1024]  # height and width, in pixels, to which it is then cropped and padded
    cfg.INPUT.MTL.CROP_CANDIDATES = 1  # of so many crops (INPUT.CROP) one, likelier with small objects and borders
    jitter = cfg.INPUT.MTL.COLOR_JITTER = CN()  # each a factor drawn from [1 - x, 1 + x]; 0 for none
    jitter.BRIGHTNESS = 0.0
    jitter.CONTRAST = 0.0
    jitter.SATURATION = 0.0
    paste = cfg.INPUT.MTL.COPY_PASTE = CN()  # objects of another image of the training set, with their labels
    paste.PROB = 0.0  # chance that an image gets some
    paste.MAX_OBJECTS = 20  # their number is drawn from 1 to this
    paste.BLEND_SIGMA = 0.0  # standard deviation, in pixels, of the blending at their borders; 0 for none

    _add_edge_label(cfg)


def _add_edge_label(cfg: CN) -> None:
    """Edge labels of the training; what is scored against stays thin, and as the dataset says."""
    edge = cfg.INPUT.MTL.EDGE = CN()
    edge.KIND = "thin"  # "thin": one pixel | "radius": both sides of a border | "dilated": thin, max-pooled
    edge.RADIUS = 2  # of "radius" and "dilated", in pixels of the augmented image
    edge.SOURCE = ""  # "instance" | "semantic" | "union", for images whose edges are derived; "" as the dataset says
    edge.ETA = 0.5  # of several annotators so many, as a share, make a pixel an edge; fewer, but some, make it ignored


def add_dataloader(cfg: CN) -> None:
    # Detectron2's DATALOADER.REPEAT_THRESHOLD above 0 repeats images of rare classes, whatever SAMPLER_TRAIN is.
    mixing = cfg.DATALOADER.MTL = CN()
    mixing.DATASET_RATIOS = []  # share of the images from each of DATASETS.TRAIN; [] for as many as it has
    mixing.TASK_RATIOS = CN(new_allowed=True)  # {task: share of the images that are labelled for it}
    mixing.TASK_QUOTA_STEPS = 0  # every so many steps a batch has a labelled image for each task; 0 for no quota
    mixing.SIZE_BUCKETS = 0  # the images of a batch are from one of so many buckets by size; 0 for no buckets
    mixing.REPEAT_SEM_SEG = False  # rare and frequent by semantic classes too: reads every semantic map once
    mixing.UNDERSAMPLE_FREQUENT = 0.0  # images with no class rarer than this share of images come less often; 0 for off
    mixing.UNDERSAMPLE_EMPTY = 1.0  # share of the images without objects that an epoch has
