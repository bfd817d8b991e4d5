"""Pneumoscope finds pneumonia on chest radiographs.

Example:
    >>> from pneumoscope import Detector
    >>> Detector().predict(["image.png"])
    array(['NORMAL'], dtype='<U9')
"""

from pneumoscope.api import audit, calibrate, evaluate, train
from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging.radiograph import Radiograph, read
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding
from pneumoscope.version import __version__

__all__ = [
    "Detector",
    "Finding",
    "PneumoscopeError",
    "Radiograph",
    "__version__",
    "audit",
    "calibrate",
    "evaluate",
    "read",
    "train",
]
