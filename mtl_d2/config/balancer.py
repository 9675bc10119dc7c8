"""MODEL.MTL.BALANCER: how the tasks are weighed."""

from detectron2.config import CfgNode as CN


def add_balancer(mtl: CN) -> None:
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
