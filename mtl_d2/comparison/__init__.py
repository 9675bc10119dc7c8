"""Does multi-task help? Joint networks beside single-task references, several seeds, from one description.

``description`` reads the YAML, ``plan`` says which trainings it takes, ``execute`` runs them, ``choose`` picks what the
search found, ``findings`` makes the record, and ``page``, ``sentences`` and ``plots`` show it.
"""

from .carry_out import Campaign, describe_plan
from .description import Comparison, ComparisonError, read_comparison
from .execute import Runs
from .findings import new_findings
from .page import load_comparisons, render_comparison, render_comparisons

__all__ = [
    "Campaign",
    "Comparison",
    "ComparisonError",
    "Runs",
    "describe_plan",
    "load_comparisons",
    "new_findings",
    "read_comparison",
    "render_comparison",
    "render_comparisons",
]
