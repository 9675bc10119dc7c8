"""Every config key of mtl_d2, in nodes MTL of MODEL, INPUT, DATALOADER, SOLVER, TEST; Detectron2's defaults stay."""

from detectron2.config import CfgNode as CN


def add_mtl_config(cfg: CN) -> None:
    """Add the keys of mtl_d2 to a Detectron2 config, in place."""
    _add_model(cfg)
    _add_input(cfg)
    _add_dataloader(cfg)
    _add_solver(cfg)
    _add_test(cfg)


def _add_model(cfg: CN) -> None:
    mtl = cfg.MODEL.MTL = CN()
    mtl.TASKS = ["instance", "sem_seg", "edge"]  # any subset of the registered tasks
    mtl.LABEL_PATIENCE = 1000  # a task without a label for so many batches in a row stops the training
    mtl.CHANNELS_LAST = False  # memory format of the backbone's input; faster on recent CPUs and GPUs

    _add_init(mtl)
    _add_neck(mtl)
    _add_balancer(mtl)

    mtl.CLASS_WEIGHTS_BETA = 0.999  # beta of the CLASS_WEIGHTS "effective", in [0, 1): nearer to 1, nearer to "inverse"

    mtl.RPN = CN()
    mtl.RPN.OBJECTNESS_LOSS = "ce"  # "ce" | "focal"
    mtl.RPN.FOCAL_ALPHA = 0.25  # weight of the positives, in (0, 1); -1 for none
    mtl.RPN.FOCAL_GAMMA = 2.0
    mtl.RPN.POSITIVE_WEIGHT = 1.0  # of a positive anchor in the objectness loss, beside 1 of a negative one

    mtl.ROI_BOX_HEAD = CN()
    mtl.ROI_BOX_HEAD.CLS_LOSS = "ce"  # "ce" (softmax) | "focal" (sigmoid, K + 1 columns, normalised by foreground)
    mtl.ROI_BOX_HEAD.FOCAL_ALPHA = 0.25
    mtl.ROI_BOX_HEAD.FOCAL_GAMMA = 2.0
    mtl.ROI_BOX_HEAD.CLASS_WEIGHTS = None  # as below, of each class and at last of the background

    mtl.ROI_HEADS = CN()
    mtl.ROI_HEADS.OHEM = CN()  # online hard examples
    mtl.ROI_HEADS.OHEM.ENABLED = False  # the regions of the largest loss, where Detectron2 takes a random sample
    mtl.ROI_HEADS.OHEM.NMS_THRESH = 0.7  # of regions that overlap by more, the hardest alone; 1 for all

    mtl.SEM_SEG_HEAD = CN()
    mtl.SEM_SEG_HEAD.LOSS = "ce"  # "ce" | "focal" | "dice"
    mtl.SEM_SEG_HEAD.FOCAL_GAMMA = 2.0
    # A number for each class, or how to count them in DATASETS.TRAIN: "inverse", "median", "effective"; None for none.
    mtl.SEM_SEG_HEAD.CLASS_WEIGHTS = None
    mtl.SEM_SEG_HEAD.OHEM = CN()  # online hard examples: the loss is taken over these pixels alone
    mtl.SEM_SEG_HEAD.OHEM.FRACTION = 1.0  # share of the labelled pixels, those with the largest loss; 1 for all
    mtl.SEM_SEG_HEAD.OHEM.THRESHOLD = 0.0  # or those whose class has at most this probability; 0 for none
    mtl.SEM_SEG_HEAD.OHEM.MIN_KEPT = 0.0625  # with THRESHOLD: at least this share of the labelled pixels
    mtl.SEM_SEG_HEAD.PIXELS_PER_CLASS = 0  # labelled pixels of each class and image in the loss, at random; 0 for all

    mtl.EDGE_HEAD = CN()
    mtl.EDGE_HEAD.NAME = "FPNEdgeHead"  # | "HEDEdgeHead" | "LightEdgeHead" | "TowerEdgeHead" | "DecoderEdgeHead"
    mtl.EDGE_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    mtl.EDGE_HEAD.CONVS_DIM = 64
    mtl.EDGE_HEAD.NORM = "GN"
    mtl.EDGE_HEAD.STRIDE = 1  # of the prediction, in input pixels: 4, 2 or 1
    mtl.EDGE_HEAD.STEM_DIM = 16  # channels of the image stem that gives detail at STRIDE 1 and 2; 0 for none
    mtl.EDGE_HEAD.LOSS = "hed"  # "hed" | "rcf" | "fixed" | "focal" | "dice" | "tracing" | "rank"
    mtl.EDGE_HEAD.POSITIVE_WEIGHT = 0.95  # with LOSS "fixed": of the edge pixels; that of the others is 1 minus it
    mtl.EDGE_HEAD.LOSS_WEIGHT = 1.0
    _add_edge_heads(mtl.EDGE_HEAD)
    _add_coupling(mtl)
    _add_decoders(mtl)
    _add_backbones(mtl)
    _add_classification(mtl)


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
    decoder.DEEPLAB.DILATIONS = [6, 12, 18]  # in cells of the coarsest level; twice these at stride 8
    decoder.DEEPLAB.SEPARABLE = False  # depthwise separable convolutions, v3+ alone
    decoder.RSPP = CN()
    decoder.RSPP.BINS = [1, 2, 3, 6]  # as PSPNET.BINS
    decoder.RSPP.TIMES = 2  # how often the pooling is applied to its own output


def _add_backbones(mtl: CN) -> None:
    mtl.BACKBONE = CN()
    # Maps below the FPN that are given beside its levels, such as ["res2", "res3"], of those that the bottom-up network
    # gives. Not read by Detectron2's own builders: "build_resnet_fpn_with_maps_backbone" stands for its ResNet FPN.
    mtl.BACKBONE.EXTRA_FEATURES = []
    mtl.VGG = CN()  # of "build_vgg_backbone" and "build_vgg_fpn_backbone"; by default VGG-16
    mtl.VGG.DEPTHS = [2, 2, 3, 3, 3]  # convolutions of each stage
    mtl.VGG.WIDTHS = [64, 128, 256, 512, 512]  # their channels
    mtl.VGG.NORM = "BN"  # "BN" | "FrozenBN" | "GN" | ... | "" for none
    # "s1", "s2", ... of that stride: stages 1, 2, ... before their pooling, at last the last pooling; and where the
    # maxima of the poolings stood, "pool1_indices", ... (SegNet).
    mtl.VGG.OUT_FEATURES = ["s4", "s8", "s16", "s32"]


def _add_edge_heads(head: CN) -> None:
    """Options of single edge heads and edge losses."""
    head.HED = CN()
    head.HED.DEEP_WEIGHT = 1.0  # of the sum of the side outputs' losses, beside the fused one's 1; 0 for none of them
    head.TRACING = CN()  # with LOSS "tracing", beside the 1 of RCF's term
    head.TRACING.BOUNDARY_WEIGHT = 4.0  # of the term that draws probability onto the edges; at least 0
    head.TRACING.TEXTURE_WEIGHT = 0.01  # of the term that keeps pixels far from edges quiet; at least 0


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


def _add_init(mtl: CN) -> None:
    """Parts of the network from other checkpoints, loaded after MODEL.WEIGHTS, before the first step."""
    mtl.INIT = CN()
    mtl.INIT.TRUNK = []  # the backbone: of one checkpoint, or the average of several
    mtl.INIT.NECK = []  # as TRUNK; what it has for tasks that no file knows keeps its initial values
    mtl.INIT.HEADS = CN(new_allowed=True)  # {task: the checkpoint that gives its head}
    mtl.INIT.NETWORKS = CN(new_allowed=True)  # of SeparateTaskNetworks: {task: checkpoint of a network of that task}


def _add_neck(mtl: CN) -> None:
    neck = mtl.NECK = CN()
    # "identity" | "hypercolumn" | "hyper_features" | "hypernetwork" | "squeeze_excitation"
    neck.NAME = "identity"
    column = neck.HYPERCOLUMN = CN()
    column.IN_FEATURES = []  # levels that describe a pixel, the finest among them; [] for all
    column.CHANNELS = 0  # of the descriptor; 0 for as many as the finest level has
    column.NORM = "GN"
    hyper = neck.HYPER_FEATURES = CN()
    hyper.REFERENCE = "p2"  # the level that the aggregated map has the size of
    hyper.CHANNELS = 42  # of each level in that map
    hyper.NORM = "LRN"  # of each level in that map: "LRN" (local response), or a norm of Detectron2's
    network = neck.HYPERNETWORK = CN()
    # What is made for each task and image: "channel", scales and shifts of channels | "low_rank", updates of weights
    network.FORM = "channel"
    network.RANK = 4  # of FORM "low_rank"
    network.DEPTH = 2  # number of convolutions
    network.FREEZE = False  # only the task embeddings learn; for one that INIT.NECK loads
    neck.SQUEEZE_EXCITATION = CN()
    neck.SQUEEZE_EXCITATION.REDUCTION = 16  # channels of a level per unit of its bottleneck


def _add_balancer(mtl: CN) -> None:
    # Between tasks only the balancer weighs; a head's LOSS_WEIGHT acts within its task.
    balancer = mtl.BALANCER = CN()
    # "fixed" | "equal" (all 1, without WEIGHTS) | "uncertainty" | "imtl_l" | "dwa" | "rlw" | "geometric_mean" | "stch"
    # | "famo"; of gradients: "gradnorm", and with torchjd "pcgrad" | "mgda" | "cagrad" | "imtl_g" | "nash_mtl"
    # | "aligned_mtl" | "upgrad"
    balancer.NAME = "fixed"
    # Prior weights: the method sees weight * loss. A task that is not named has 1; one with 0 takes no part.
    balancer.WEIGHTS = CN({"instance": 1.0, "sem_seg": 1.0, "edge": 1.0}, new_allowed=True)
    balancer.DWA = CN()
    balancer.DWA.PERIOD = 100  # steps whose mean losses are compared; an epoch in the paper
    balancer.DWA.TEMPERATURE = 2.0  # the higher, the more alike the weights
    balancer.STCH = CN()
    balancer.STCH.MU = 0.5  # the smaller, the closer to the worst task's loss alone
    balancer.STCH.WARMUP = 100  # a task's first labelled steps, whose mean loss is its unit; 0 for losses as they are
    balancer.FAMO = CN()
    balancer.FAMO.LR = 0.025  # of the task logits
    balancer.FAMO.GAMMA = 0.001  # decay of the task logits
    _add_gradient_balancers(balancer)


def _add_gradient_balancers(balancer: CN) -> None:
    balancer.COSINE_PERIOD = 0  # every so many steps the cosines between the tasks' gradients are logged; 0 for never
    balancer.GRADIENT = CN()
    balancer.GRADIENT.CUT = (
        "features"  # gradients of the shared features | "parameters": of the trunk, exact and dearer
    )
    balancer.GRADIENT.PERIOD = 0  # steps between refreshes of the weights; 0: 1 for features, 4 for parameters
    balancer.CAGRAD = CN()
    balancer.CAGRAD.C = 0.4  # radius around the mean gradient, in its norm; at least 0
    balancer.NASH_MTL = CN()
    balancer.NASH_MTL.MAX_NORM = 1.0  # of the weighted gradient; 0 for no bound
    balancer.NASH_MTL.ITERATIONS = 20  # of the optimisation, at most
    balancer.GRADNORM = CN()
    balancer.GRADNORM.ASYMMETRY = 1.5  # how strongly tasks that lag behind are pulled; 0 for equal norms
    balancer.GRADNORM.LR = 0.025  # of the weights


def _add_input(cfg: CN) -> None:
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


def _add_dataloader(cfg: CN) -> None:
    # Detectron2's DATALOADER.REPEAT_THRESHOLD above 0 repeats images of rare classes, whatever SAMPLER_TRAIN is.
    mixing = cfg.DATALOADER.MTL = CN()
    mixing.DATASET_RATIOS = []  # share of the images from each of DATASETS.TRAIN; [] for as many as it has
    mixing.TASK_RATIOS = CN(new_allowed=True)  # {task: share of the images that are labelled for it}
    mixing.TASK_QUOTA_STEPS = 0  # every so many steps a batch has a labelled image for each task; 0 for no quota
    mixing.SIZE_BUCKETS = 0  # the images of a batch are from one of so many buckets by size; 0 for no buckets
    mixing.REPEAT_SEM_SEG = False  # rare and frequent by semantic classes too: reads every semantic map once
    mixing.UNDERSAMPLE_FREQUENT = 0.0  # images with no class rarer than this share of images come less often; 0 for off
    mixing.UNDERSAMPLE_EMPTY = 1.0  # share of the images without objects that an epoch has


def _add_solver(cfg: CN) -> None:
    mtl = cfg.SOLVER.MTL = CN()
    mtl.OPTIMIZER = "SGD"  # "SGD" | "ADAM" | "ADAMW"
    mtl.AMP_DTYPE = "bfloat16"  # with SOLVER.AMP.ENABLED: "bfloat16" | "float16" (CUDA only)
    mtl.BEST_METRIC = ""  # such as "segm/AP": the best checkpoint is kept as model_best.pth; "" for none
    mtl.ACCUMULATE_STEPS = 1  # parts of equal size that a process runs its images of a step in, to save memory
    mtl.MAX_BAD_STEPS = 10  # so many steps in a row with an infinite or NaN loss stop the training

    mtl.PARTS = CN()  # what the optimizer and the schedule do with a part of the network
    tasks = ("instance", "sem_seg", "edge", "edge_coupling", "classification", "keypoint")
    for part in ("backbone", "neck", *tasks, "balancer"):
        add_part(cfg, part)

    mtl.SCHEDULE = CN()  # which tasks are in the loss of a step, beside START and STOP of PARTS
    mtl.SCHEDULE.NAME = "joint"  # "joint": all of them | "alternating": one of them
    mtl.SCHEDULE.PATTERN = []  # of "alternating": tasks in turn, such as [instance, instance, edge]; [] for each once
    mtl.SCHEDULE.PERIOD = 1  # of "alternating": steps of a turn
    mtl.SCHEDULE.FREEZE = []  # such as [{PART: backbone, FROM: 0, TO: 500}], steps [FROM, TO); TO -1 for the end
    mtl.SCHEDULE.RESET_MOMENTUM = False  # whether a part that FREEZE lets go loses its optimizer state

    # Runs one after the other, each from what the one before has trained: [{NAME: joint, <keys of the config>: values,
    # TRUNK: of a joint network after separate ones, the task whose backbone it gets, or average}]; [] for one run
    mtl.STAGES = []

    mtl.EMA = CN()  # exponential moving average of the weights: what is evaluated, and "model" of the checkpoints
    mtl.EMA.ENABLED = False
    mtl.EMA.DECAY = 0.999  # per step, in [0, 1)
    mtl.EMA.WARMUP = True  # in step n at most (1 + n) / (10 + n), so that the initial weights are soon forgotten


def add_part(cfg: CN, part: str) -> None:
    """Add SOLVER.MTL.PARTS.<part>, in place: "backbone", "neck", "balancer", or a task; a node that is there stays."""
    parts = cfg.SOLVER.MTL.PARTS
    if part in parts:
        return
    node = parts[part] = CN()
    node.LR_FACTOR = 1.0  # times SOLVER.BASE_LR
    if part == "backbone":
        node.LAYER_DECAY = 1.0  # times this for each stage below the FPN: res5 once, res4 twice, ..., stem
    node.START = 0  # trained in the steps [START, STOP), over which the schedule runs; a task is out of other losses
    node.STOP = -1  # -1 for SOLVER.MAX_ITER
    # None for the key of that name in SOLVER.
    node.WEIGHT_DECAY = None  # of weights; norms and biases have SOLVER's own. The balancer's None is 0
    node.LR_SCHEDULER_NAME = None  # "WarmupMultiStepLR" | "WarmupCosineLR"
    node.STEPS = None  # steps of the run, not of the part
    node.GAMMA = None
    node.WARMUP_ITERS = None  # from START on


def _add_test(cfg: CN) -> None:
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
