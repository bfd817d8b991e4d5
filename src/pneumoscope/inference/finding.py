"""The finding for one image, and the meaning of its warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging.preprocessing import Box

WARNINGS = {
    "adolescent_patient": "The header says that the patient is 12 to 17 years old; the model was trained on none.",
    "adult_patient": "The header says that the patient is an adult; the model was trained on no adults.",
    "child_patient": "The header says that the patient is 1 to 11 years old; the model was trained on none.",
    "dark": "The image is dark: probability and finding may be off; export it as bright as it is displayed.",
    "first_frame_only": "The file holds several images; only the first was read.",
    "framed": "A wide even frame surrounds the image; only what is inside it was read.",
    "infant_patient": "The header says that the patient is under a year old; the model was trained on none.",
    "inverse_display": "The header requests inverse display, which is ambiguous: the likelier meaning was used.",
    "inverted": "The image seems to be inverted, dense tissue dark: the finding is not to be trusted; invert it back.",
    "low_resolution": "The image is smaller than the model's input; fine detail is missing.",
    "mirrored": "The heart seems to be on the wrong side: the image may be mirrored.",
    "photograph_of_screen": "The image seems to be a photograph of a screen: the finding may be off; use the original.",
    "pseudo_coloured": "The image is coloured like a heat map, not gray: the finding is not to be trusted.",
    "raw": "The header says that these are raw detector data, not for display: the finding is not to be trusted.",
    "rotated": "The image seems to be turned by 90 or 180 degrees: the finding is not to be trusted; turn it upright.",
    "saturated": "Much of the image is pure white, where nothing can be seen: probability and finding may be off.",
    "seen_in_training": "The model was trained or tuned on this very image; the finding says nothing about new images.",
    "turned_by_header": "The header says that the image is stored turned or mirrored; it was read as it is stored.",
    "unlike_training_images": "The model was not trained on images like this one: finding and probability may be off.",
}
"""The meaning of each warning of a finding."""


@dataclass(frozen=True)
class Finding:
    """The finding for one image, or the reason why there is none.

    Attributes:
        path: the path of the image, as it was given.
        probability: the calibrated probability of `PNEUMONIA`, in [0, 1].
        finding: `NORMAL` or `PNEUMONIA`; None if `error` is set.
        uncertain: whether the probability lies in the model's uncertain band.
        threshold: the probability from which on the finding is `PNEUMONIA`.
        warnings: keys of `WARNINGS`.
        error: what went wrong.
        evidence: (h, w), what each cell adds to the logit compared with a usual image, if requested. For a framed image
            it has more cells, because it covers the frame as well.
        squashed: the network's input (S, S), and the part of the image that it shows, if requested.
    """

    path: str
    probability: float | None = None
    finding: str | None = None
    uncertain: bool | None = None
    threshold: float | None = None
    warnings: tuple[str, ...] = ()
    error: PneumoscopeError | None = None
    evidence: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    squashed: tuple[NDArray[np.float32], Box] | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `pneumoscope predict` prints; probabilities have six decimal places.

        Example:
            >>> Finding("a.png", 0.25, "NORMAL", False, 0.5).as_dict()["finding"]
            'NORMAL'
        """
        return {
            "path": self.path,
            "probability": None if self.probability is None else round(self.probability, 6),
            "finding": self.finding,
            "uncertain": self.uncertain,
            "threshold": None if self.threshold is None else round(self.threshold, 6),
            "warnings": list(self.warnings),
            "error": None if self.error is None else {"kind": self.error.kind, "message": str(self.error)},
        }
