"""Age groups of patients: a model is reliable only for the age groups it was trained on."""

from __future__ import annotations

import math

GROUPS: dict[str, tuple[float, float]] = {
    "infant_patient": (0, 1),
    "child_patient": (1, 12),
    "adolescent_patient": (12, 18),
    "adult_patient": (18, math.inf),
}
"""The age range of each group in years, lower end included, by the name of its warning."""


def group(years: float) -> str:
    """Return the group of a patient of this age.

    Example:
        >>> group(0.5), group(17.9), group(18)
        ('infant_patient', 'adolescent_patient', 'adult_patient')
    """
    return next(name for name, (_, below) in GROUPS.items() if years < below)


def not_covered(youngest: float, oldest: float) -> frozenset[str]:
    """Return the groups that no training patient belongs to.

    Args:
        youngest: the age of the youngest training patient, in years; 0 if unknown.
        oldest: the age of the oldest, in years; 0 if unknown.

    Example:
        >>> sorted(not_covered(1, 5))
        ['adolescent_patient', 'adult_patient', 'infant_patient']
    """
    last = oldest or math.inf
    return frozenset(name for name, (start, below) in GROUPS.items() if last < start or youngest >= below)
