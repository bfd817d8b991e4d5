"""Pneumoscope finds pneumonia on chest radiographs.

Example:
    >>> from pneumoscope import Detector  # doctest: +SKIP
    >>> Detector().predict(["film.png"])  # doctest: +SKIP
    array(['NORMAL'], dtype='<U9')
"""

from pneumoscope.detector import Detector, Finding
from pneumoscope.errors import PneumoscopeError
from pneumoscope.radiograph import Radiograph, read

__version__ = "0.1.0"

__all__ = ["Detector", "Finding", "PneumoscopeError", "Radiograph", "read"]
