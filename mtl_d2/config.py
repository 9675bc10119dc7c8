"""Every config key of mtl_d2, in the nodes MTL of MODEL, INPUT, DATALOADER, SOLVER; Detectron2's defaults stay."""

from detectron2.config import CfgNode as CN


def add_mtl_config(cfg: CN) -> None:
    """Add the keys of mtl_d2 to a Detectron2 config, in place."""
    mtl = cfg.MODEL.MTL = CN()
    mtl.TASKS = ["instance", "sem_seg", "edge"]  # any subset of the registered tasks
    mtl.LABEL_PATIENCE = 1000  # a task without a label for so many batches in a row stops the training
    mtl.CHANNELS_LAST = False  # memory format of the backbone's input; faster on recent CPUs and GPUs

    # Between tasks only the balancer weighs; a head's LOSS_WEIGHT acts within its task.
    mtl.BALANCER = CN()
    mtl.BALANCER.NAME = "fixed"
    mtl.BALANCER.WEIGHTS = CN({"instance": 1.0, "sem_seg": 1.0, "edge": 1.0}, new_allowed=True)

    mtl.RPN = CN()
    mtl.RPN.OBJECTNESS_LOSS = "ce"  # "ce" | "focal"
    mtl.RPN.FOCAL_ALPHA = 0.25  # weight of the positives, in (0, 1); -1 for none
    mtl.RPN.FOCAL_GAMMA = 2.0

    mtl.ROI_BOX_HEAD = CN()
    mtl.ROI_BOX_HEAD.CLS_LOSS = "ce"  # "ce" (softmax) | "focal" (sigmoid, K + 1 columns, normalised by foreground)
    mtl.ROI_BOX_HEAD.FOCAL_ALPHA = 0.25
    mtl.ROI_BOX_HEAD.FOCAL_GAMMA = 2.0

    mtl.SEM_SEG_HEAD = CN()
    mtl.SEM_SEG_HEAD.LOSS = "ce"  # "ce" | "focal" | "dice"
    mtl.SEM_SEG_HEAD.FOCAL_GAMMA = 2.0
    mtl.SEM_SEG_HEAD.PIXELS_PER_CLASS = 0  # labelled pixels of each class and image in the loss, at random; 0 for all

    mtl.EDGE_HEAD = CN()
    mtl.EDGE_HEAD.NAME = "FPNEdgeHead"
    mtl.EDGE_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    mtl.EDGE_HEAD.CONVS_DIM = 64
    mtl.EDGE_HEAD.NORM = "GN"
    mtl.EDGE_HEAD.STRIDE = 1  # of the prediction, in input pixels: 4, 2 or 1
    mtl.EDGE_HEAD.STEM_DIM = 16  # channels of the image stem that gives detail at STRIDE 1 and 2; 0 for none
    mtl.EDGE_HEAD.LOSS = "hed"  # "hed" | "rcf" | "fixed" | "focal" | "dice"
    mtl.EDGE_HEAD.LOSS_WEIGHT = 1.0

    cfg.INPUT.MTL = CN()
    cfg.INPUT.MTL.VERTICAL_FLIP_PROB = 0.0  # beside INPUT.RANDOM_FLIP: for images without an up, as in microscopy
    cfg.INPUT.MTL.SCALE_TEST = 0.0  # resize test images by this factor, whatever their size; 0 for INPUT.MIN_SIZE_TEST
    cfg.INPUT.MTL.INVERT_PROB = 0.0  # chance that an image's intensities are inverted (255 - x)

    # Detectron2's DATALOADER.REPEAT_THRESHOLD above 0 repeats images of rare classes, whatever SAMPLER_TRAIN is.
    mixing = cfg.DATALOADER.MTL = CN()
    mixing.DATASET_RATIOS = []  # share of the images from each of DATASETS.TRAIN; [] for as many as it has
    mixing.TASK_RATIOS = CN(new_allowed=True)  # {task: share of the images that are labelled for it}
    mixing.TASK_QUOTA_STEPS = 0  # every so many steps a batch has a labelled image for each task; 0 for no quota
    mixing.SIZE_BUCKETS = 0  # the images of a batch are from one of so many buckets by size; 0 for no buckets
    mixing.REPEAT_SEM_SEG = False  # rare and frequent by semantic classes too: reads every semantic map once
    mixing.UNDERSAMPLE_FREQUENT = 0.0  # images with no class rarer than this share of images come less often; 0 for off
    mixing.UNDERSAMPLE_EMPTY = 1.0  # share of the images without objects that an epoch has

    cfg.SOLVER.MTL = CN()
    cfg.SOLVER.MTL.OPTIMIZER = "SGD"  # "SGD" | "ADAMW"
    cfg.SOLVER.MTL.AMP_DTYPE = "bfloat16"  # with SOLVER.AMP.ENABLED: "bfloat16" | "float16" (CUDA only)
    cfg.SOLVER.MTL.BEST_METRIC = ""  # such as "segm/AP": the best checkpoint is kept as model_best.pth; "" for none
