"""Pneumoscope finds pneumonia on chest radiographs.

Example:
    >>> from pneumoscope import Detector  # doctest: +SKIP
    >>> Detector().predict(["image.png"])  # doctest: +SKIP
    array(['NORMAL'], dtype='<U9')
"""

from pneumoscope.api import audit, calibrate, evaluate, train
from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging.radiograph import Radiograph, read
from pneumoscope.inference.detector import Detector, Finding

__version__ = "0.2.0"

__all__ = ["Detector", "Finding", "PneumoscopeError", "Radiograph", "audit", "calibrate", "evaluate", "read", "train"]
