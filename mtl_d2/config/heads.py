"""MODEL.MTL: what each task's head is, and what it is trained with."""

from detectron2.config import CfgNode as CN


def add_heads(mtl: CN) -> None:
    mtl.CLASS_WEIGHTS_BETA = 0.999  # beta of the CLASS_WEIGHTS "effective", in [0, 1): nearer to 1, nearer to "inverse"
    _add_instance(mtl)
    _add_sem_seg(mtl)
    _add_edge(mtl)
    _add_decoders(mtl)
    _add_coupling(mtl)
    _add_classification(mtl)


def _add_instance(mtl: CN) -> None:
    mtl.RPN = CN()
    mtl.RPN.OBJECTNESS_LOSS = "ce"  # "ce" | "focal"
    mtl.RPN.FOCAL_ALPHA = 0.25  # weight of the positives, in (0, 1); -1 for none
    mtl.RPN.FOCAL_GAMMA = 2.0
    mtl.RPN.POSITIVE_WEIGHT = 1.0  # of a positive anchor in the objectness loss, beside 1 of a negative one

    mtl.ROI_BOX_HEAD = CN()
    mtl.ROI_BOX_HEAD.CLS_LOSS = "ce"  # "ce" (softmax) | "focal" (sigmoid, K + 1 columns, normalised by foreground)
    mtl.ROI_BOX_HEAD.FOCAL_ALPHA = 0.25
    mtl.ROI_BOX_HEAD.FOCAL_GAMMA = 2.0
    mtl.ROI_BOX_HEAD.CLASS_WEIGHTS = None  # as those of SEM_SEG_HEAD, at last that of the background

    mtl.ROI_HEADS = CN()
    mtl.ROI_HEADS.OHEM = CN()  # online hard examples
    mtl.ROI_HEADS.OHEM.ENABLED = False  # the regions of the largest loss, where Detectron2 takes a random sample
    mtl.ROI_HEADS.OHEM.NMS_THRESH = 0.7  # of regions that overlap by more, the hardest alone; 1 for all


def _add_sem_seg(mtl: CN) -> None:
    mtl.SEM_SEG_HEAD = CN()
    mtl.SEM_SEG_HEAD.LOSS = "ce"  # "ce" | "focal" | "dice": cross-entropy plus dice
    mtl.SEM_SEG_HEAD.FOCAL_GAMMA = 2.0
    # A number for each class, or how to count them in DATASETS.TRAIN: "inverse", "median", "effective"; None for none.
    mtl.SEM_SEG_HEAD.CLASS_WEIGHTS = None
    mtl.SEM_SEG_HEAD.OHEM = CN()  # online hard examples: the loss is taken over these pixels alone
    mtl.SEM_SEG_HEAD.OHEM.FRACTION = 1.0  # share of the labelled pixels, those with the largest loss; 1 for all
    mtl.SEM_SEG_HEAD.OHEM.THRESHOLD = 0.0  # or those whose class has at most this probability; 0 for none
    mtl.SEM_SEG_HEAD.OHEM.MIN_KEPT = 0.0625  # with THRESHOLD: at least this share of the labelled pixels
    mtl.SEM_SEG_HEAD.PIXELS_PER_CLASS = 0  # labelled pixels of each class and image in the loss, at random; 0 for all


def _add_edge(mtl: CN) -> None:
    mtl.EDGE_HEAD = CN()
    mtl.EDGE_HEAD.NAME = "FPNEdgeHead"  # | "HEDEdgeHead" | "LightEdgeHead" | "TowerEdgeHead" | "DecoderEdgeHead"
    mtl.EDGE_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    mtl.EDGE_HEAD.CONVS_DIM = 64
    mtl.EDGE_HEAD.NORM = "GN"
    mtl.EDGE_HEAD.STRIDE = 1  # of the prediction, in input pixels: 4, 2 or 1
    mtl.EDGE_HEAD.STEM_DIM = 16  # a quarter of the channels of the stem that sees the image itself; 0 for none
    mtl.EDGE_HEAD.LOSS = "hed"  # "hed" | "rcf" | "fixed" | "focal" | "dice" | "tracing" | "rank"
    mtl.EDGE_HEAD.POSITIVE_WEIGHT = 0.95  # with LOSS "fixed": of the edge pixels; that of the others is 1 minus it
    mtl.EDGE_HEAD.FOCAL_ALPHA = 0.25  # with LOSS "focal": weight of the edge pixels, in (0, 1); -1 for none
    mtl.EDGE_HEAD.FOCAL_GAMMA = 2.0
    mtl.EDGE_HEAD.LOSS_WEIGHT = 1.0
    _add_edge_heads(mtl.EDGE_HEAD)


def _add_edge_heads(head: CN) -> None:
    """Options of single edge heads and edge losses."""
    head.HED = CN()
    head.HED.DEEP_WEIGHT = 1.0  # of the sum of the side outputs' losses, beside the fused one's 1; 0 for none of them
    head.TRACING = CN()  # with LOSS "tracing", beside the 1 of RCF's term
    head.TRACING.BOUNDARY_WEIGHT = 4.0  # of the term that draws probability onto the edges; at least 0
    head.TRACING.TEXTURE_WEIGHT = 0.01  # of the term that keeps pixels far from edges quiet; at least 0


def _add_decoders(mtl: CN) -> None:
    """What DecoderSemSegHead and DecoderEdgeHead decode with, beside IN_FEATURES, CONVS_DIM and NORM of the head."""
    # "FPNDecoder" | "FCNDecoder" | "SegNetDecoder" | "UNetDecoder" | "PSPNetDecoder" | "DeepLabV3Decoder"
    # | "DeepLabV3PlusDecoder" | "RSPPDecoder"
    mtl.SEM_SEG_HEAD.DECODER = "FPNDecoder"  # of MODEL.SEM_SEG_HEAD.NAME "DecoderSemSegHead"
    mtl.EDGE_HEAD.DECODER = "FPNDecoder"  # of MODEL.MTL.EDGE_HEAD.NAME "DecoderEdgeHead"
    decoder = mtl.DECODER = CN()
    decoder.FCN = CN()
    decoder.FCN.FC_DIM = 4096  # channels of the fully connected layers
    decoder.FCN.FC_KERNEL = 7  # of the first of them, in cells of the coarsest level; odd
    decoder.PSPNET = CN()
    decoder.PSPNET.BINS = [1, 2, 3, 6]  # cells along each side of the grids
    decoder.PSPNET.AUXILIARY_WEIGHT = 0.4  # of the loss of the level before the coarsest; 0 for none
    decoder.DEEPLAB = CN()  # v3 and v3+
    decoder.DEEPLAB.DILATIONS = [6, 12, 18]  # in cells of the coarsest level, for stride 16; twice these suit 8
    decoder.DEEPLAB.SEPARABLE = False  # depthwise separable convolutions, v3+ alone
    decoder.RSPP = CN()
    decoder.RSPP.BINS = [1, 2, 3, 6]  # as PSPNET.BINS
    decoder.RSPP.TIMES = 2  # how often the pooling is applied to its own output


def _add_coupling(mtl: CN) -> None:
    """What the semantic and the edge head give each other."""
    mtl.EDGE_HEAD.TOWER = CN()  # of NAME "TowerEdgeHead", which reads what the semantic predictor reads
    mtl.EDGE_HEAD.TOWER.DETACH = False  # whether the edge loss leaves the semantic tower, and the backbone, alone

    two_stage = mtl.SEM_SEG_HEAD.TWO_STAGE = CN()  # of MODEL.SEM_SEG_HEAD.NAME "TwoStageSemSegHead"
    two_stage.EDGE_INPUT = False  # whether the second stage reads what the edge head says
    two_stage.STRIDE = 2  # of the prediction, in input pixels: a divisor of MODEL.SEM_SEG_HEAD.COMMON_STRIDE
    two_stage.CONVS_DIM = 64  # channels of the second stage
    two_stage.COARSE_WEIGHT = 0.4  # of the first stage's loss, beside 1 of the second's

    mtl.EDGE_COUPLING = CN()  # of the task "edge_coupling": edges of the semantic prediction, against the edge labels
    mtl.EDGE_COUPLING.EDGES = "structures"  # mean over the classes of the image | "total_variation" of neighbours
    mtl.EDGE_COUPLING.SMOOTHNESS = 0.1  # lambda: half of it weighs the differences between neighbours off the edges
    mtl.EDGE_COUPLING.BETA = 5.0  # those at an edge have exp(-BETA) of that weight
    mtl.EDGE_COUPLING.CONSISTENCY_WEIGHT = 0.0  # of the difference from what the edge head says; 0 for none
    mtl.EDGE_COUPLING.DETACH_EDGES = True  # whether that difference leaves the edge head alone


def _add_classification(mtl: CN) -> None:
    """The head of the task classification; its labels are what INPUT.MTL.IMAGE_LABELS says."""
    head = mtl.CLASSIFICATION_HEAD = CN()
    head.NAME = "ClassificationHead"
    head.NUM_CLASSES = 80  # of the image labels, whatever they are made from
    head.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    head.POOLING = "avg"  # of each level over the image: "avg" | "max" | "avg_max" (both)
    head.HIDDEN_DIM = 0  # channels of a layer before the last; 0 for none
    head.DROPOUT = 0.0  # share of the channels before the last layer, in [0, 1)
    head.PRIOR_PROB = 0.1  # probability of every class at the start, in (0, 1)
    head.LOSS = "bce"  # "bce" | "focal" | "asymmetric"
    head.FOCAL_ALPHA = 0.25  # with LOSS "focal": weight of the positives, in (0, 1); -1 for none
    head.FOCAL_GAMMA = 2.0
    head.ASYMMETRIC = CN()
    head.ASYMMETRIC.GAMMA_POS = 0.0  # focusing exponent of the classes in an image
    head.ASYMMETRIC.GAMMA_NEG = 4.0  # of those that are not
    head.ASYMMETRIC.SHIFT = 0.05  # a class that is not there costs nothing up to this probability, in [0, 1)
    head.CLASS_WEIGHTS = None  # as SEM_SEG_HEAD.CLASS_WEIGHTS; counted in images
    head.LOSS_WEIGHT = 1.0
