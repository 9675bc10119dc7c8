"""Does multi-task help? Joint networks beside single-task references, several seeds, from one description.

``description`` reads the YAML, ``plan`` says which trainings it takes, ``execute`` runs them, ``choose`` picks what the
search found, ``findings`` makes the record, and ``page``, ``sentences`` and ``plots`` show it. ``ablation`` is a table
of networks without references.
"""

from .ablation import AblationRuns, new_ablation_findings, read_ablation
from .ablation_page import render_ablation, render_ablations
from .carry_out import Campaign, describe_missing, describe_plan
from .description import Comparison, read_comparison
from .execute import Runs
from .findings import new_findings
from .page import render_comparison, render_comparisons
from .yaml_values import ComparisonError

__all__ = [
    "AblationRuns",
    "Campaign",
    "Comparison",
    "ComparisonError",
    "Runs",
    "describe_missing",
    "describe_plan",
    "new_ablation_findings",
    "new_findings",
    "read_ablation",
    "read_comparison",
    "render_ablation",
    "render_ablations",
    "render_comparison",
    "render_comparisons",
]
