"""Display shutters, which hide everything outside them (PS3.3, section C.7.6.11)."""

from __future__ import annotations

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pneumoscope.imaging.dicom.grayscale import numbers

LEAST_SHOWN = 0.01
"""A shutter that shows a smaller share of the image than this is taken for damaged and ignored."""

_EDGES = (
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
)


def shown(dataset: pydicom.Dataset, rows: int, columns: int) -> NDArray[np.bool_] | None:
    """Return which pixels lie within all display shutters of a header.

    Args:
        dataset: the header; its coordinates count from 1, row before column.
        rows: the number of rows of the image.
        columns: the number of columns of the image.

    Returns:
        (rows, columns), true where a pixel is shown; None if there is no shutter.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.ShutterShape = "CIRCULAR"
        >>> header.CenterOfCircularShutter, header.RadiusOfCircularShutter = [2, 2], 1
        >>> shown(header, 3, 3).astype(int)
        array([[0, 1, 0],
               [1, 1, 1],
               [0, 1, 0]])
    """
    value = dataset.get("ShutterShape") or ""
    shapes = {str(shape).strip().upper() for shape in ([value] if isinstance(value, str) else value)}
    left = np.ones((rows, columns), dtype=np.bool_)
    if "RECTANGULAR" in shapes and all(edges := [numbers(dataset, name) for name in _EDGES]):
        upper, lower, first, last = (int(np.clip(edge[0], 0, 2**20)) for edge in edges)
        within = np.zeros_like(left)
        within[max(upper - 1, 0) : lower, max(first - 1, 0) : last] = True
        left &= within
    center, radius = numbers(dataset, "CenterOfCircularShutter"), numbers(dataset, "RadiusOfCircularShutter")
    if "CIRCULAR" in shapes and len(center) == 2 and radius:
        y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
        left &= (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius[0] ** 2
    corners = numbers(dataset, "VerticesOfThePolygonalShutter")
    if "POLYGONAL" in shapes and len(corners) >= 6:
        drawn = Image.new("1", (columns, rows))
        points = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=False)]
        ImageDraw.Draw(drawn).polygon(points, fill=1, outline=1)
        left &= np.asarray(drawn)
    return left if LEAST_SHOWN * left.size <= np.count_nonzero(left) < left.size else None
