"""From the tasks' losses to what is minimised."""

from .base import Balancer, TaskLosses
from .build import BALANCER_REGISTRY, build_balancer
from .fixed import FixedBalancer

__all__ = ["BALANCER_REGISTRY", "Balancer", "FixedBalancer", "TaskLosses", "build_balancer"]
