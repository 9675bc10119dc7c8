"""SOLVER.MTL: the optimizer, what is trained when, and several stages."""

from detectron2.config import CfgNode as CN


def add_solver(cfg: CN) -> None:
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
    node.WEIGHT_DECAY = None  # of weights, and of biases unless WEIGHT_DECAY_BIAS is given. The balancer's None is 0
    node.LR_SCHEDULER_NAME = None  # "WarmupMultiStepLR" | "WarmupCosineLR"
    node.STEPS = None  # steps of the run, not of the part
    node.GAMMA = None
    node.WARMUP_ITERS = None  # from START on
