"""Age groups of patients: chests of one look unlike those of another, and a model knows those it has learnt from."""

from __future__ import annotations

import math

GROUPS: dict[str, tuple[float, float]] = {
    "infant_patient": (0, 1),
    "child_patient": (1, 12),
    "adolescent_patient": (12, 18),
    "adult_patient": (18, math.inf),
}
"""The years from which on and below which a patient is of a group, by the warning of it."""


def group(years: float) -> str:
    """Name the group of a patient of so many years.

    Example:
        >>> group(0.5), group(17.9), group(18)
        ('infant_patient', 'adolescent_patient', 'adult_patient')
    """
    return next(name for name, (_, below) in GROUPS.items() if years < below)


def not_covered(youngest: float, oldest: float) -> frozenset[str]:
    """Name the groups that none of the patients learnt from belongs to.

    Args:
        youngest: the age of the youngest of them, in years; 0 where it is not known.
        oldest: of the oldest; 0 where it is not known.

    Example:
        >>> sorted(not_covered(1, 5))
        ['adolescent_patient', 'adult_patient', 'infant_patient']
    """
    last = oldest or math.inf
    return frozenset(name for name, (start, below) in GROUPS.items() if last < start or youngest >= below)
