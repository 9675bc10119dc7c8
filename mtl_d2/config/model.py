"""MODEL.MTL: the network."""

from detectron2.config import CfgNode as CN

from .balancer import add_balancer
from .heads import add_heads


def add_model(cfg: CN) -> None:
    mtl = cfg.MODEL.MTL = CN()
    mtl.TASKS = ["instance", "sem_seg", "edge"]  # any subset of the registered tasks
    mtl.LABEL_PATIENCE = 1000  # a task without a label for so many batches in a row stops the training; 0 for none
    mtl.CHANNELS_LAST = False  # memory format of the backbone's input; faster on recent CPUs and GPUs

    _add_init(mtl)
    _add_backbones(mtl)
    _add_neck(mtl)
    add_balancer(mtl)
    add_heads(mtl)


def _add_init(mtl: CN) -> None:
    """Parts of the network from other checkpoints, loaded after MODEL.WEIGHTS, before the first step."""
    mtl.INIT = CN()
    mtl.INIT.TRUNK = []  # the backbone: of one checkpoint, or the average of several
    mtl.INIT.NECK = []  # as TRUNK; what it has for tasks that no file knows keeps its initial values
    mtl.INIT.HEADS = CN(new_allowed=True)  # {task: the checkpoint that gives its head}
    mtl.INIT.NETWORKS = CN(new_allowed=True)  # of SeparateTaskNetworks: {task: checkpoint of a network of that task}


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
