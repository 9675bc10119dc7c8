"""From the tasks' losses to what is minimised."""

from .base import Balancer, TaskLosses, TaskWeigher, average_over_ranks, task_totals
from .build import BALANCER_REGISTRY, build_balancer
from .dwa import DWABalancer
from .famo import FAMOBalancer
from .fixed import FixedBalancer
from .geometric_mean import GeometricMeanBalancer
from .gradient import GradientBalancer
from .gradient_build import MissingExtraError
from .gradient_torchjd import GramianBalancer, NashMTLBalancer
from .gradnorm import GradNormBalancer
from .imtl_l import IMTLLBalancer
from .rlw import RLWBalancer
from .stch import STCHBalancer
from .uncertainty import UncertaintyBalancer

__all__ = [
    "BALANCER_REGISTRY",
    "Balancer",
    "DWABalancer",
    "FAMOBalancer",
    "FixedBalancer",
    "GeometricMeanBalancer",
    "GradNormBalancer",
    "GradientBalancer",
    "GramianBalancer",
    "IMTLLBalancer",
    "MissingExtraError",
    "NashMTLBalancer",
    "RLWBalancer",
    "STCHBalancer",
    "TaskLosses",
    "TaskWeigher",
    "UncertaintyBalancer",
    "average_over_ranks",
    "build_balancer",
    "task_totals",
]
