"""The content of a DICOM report: a finding in template 1500, Measurement Report (PS3.16)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from numpy.typing import NDArray

from pneumoscope.inference.finding import WARNINGS, Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.version import __version__

if TYPE_CHECKING:
    from highdicom import sr

NAME = "Pneumoscope"
NOTICE = "Not a medical device: for research and teaching. Made by software and not verified by a person."

SCHEME = "99PNEUMOSCOPE"
"""The private coding scheme for concepts that neither DICOM nor SNOMED CT has."""

_FINDINGS = {"NORMAL": ("17621005", "Normal"), "PNEUMONIA": ("233604007", "Pneumonia")}  # SNOMED CT


def content(
    finding: Finding,
    header: pydicom.Dataset,
    card: Card,
    model: str,
    outlines: Sequence[NDArray[np.float64]],
    uid: Callable[[str], str],
) -> sr.MeasurementReport:
    """Return the content of a report.

    Args:
        finding: the finding for the image.
        header: the header of the image.
        card: the card of the model.
        model: the SHA-256 of the model's card, in hexadecimal digits.
        outlines: the regions that the model counted, as returned by `outlines.outlines`.
        uid: returns a UID for the name of an object.

    Example:
        >>> content(finding, header, card, 64 * "0", [], lambda name: "1.2.3")[0].ValueType
        'CONTAINER'
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    frame = [1] if int(header.get("NumberOfFrames") or 1) > 1 else None  # the frame that was read
    device = sr.DeviceObserverIdentifyingAttributes(
        f"2.25.{uuid.UUID(model[:32]).int}", NAME, NAME, f"{card.architecture} {__version__}"
    )
    method = sr.AlgorithmIdentification(
        NAME, __version__, parameters=[f"architecture: {card.architecture}", f"model, SHA-256: {model}"]
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(uid("finding"), f"{NAME} finding"),
        finding_type=sr.CodedConcept(_FINDINGS[str(finding.finding)][0], "SCT", _FINDINGS[str(finding.finding)][1]),
        finding_sites=[sr.FindingSite(codes.SCT.Lung)],
        algorithm_id=method,
        measurements=[
            sr.Measurement(_concept(name, meaning), round(float(value or 0.0), 6), codes.UCUM.NoUnits)
            for name, meaning, value in (
                ("probability", "Probability of pneumonia", finding.probability),
                ("threshold", "Operating threshold", finding.threshold),
            )
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                _concept("uncertain", "Probability in the uncertain band"),
                codes.SCT.Yes if finding.uncertain else codes.SCT.No,
            ),
            *(
                sr.QualitativeEvaluation(_concept("warning", "Warning"), _concept(key, key.replace("_", " ")))
                for key in finding.warnings
            ),
        ],
        source_images=[sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID, frame)],
    )
    # No finding type: programs that read the report could take it for a second finding.
    size = np.array([header.Columns, header.Rows], dtype=np.float64)
    regions = [
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(uid(f"outline {number}"), f"{NAME} evidence {number}"),
            referenced_region=sr.ImageRegion(
                sr.GraphicTypeValues.POLYLINE,
                line * size,  # pixels, from the upper left corner of the upper left one (PS3.3, section C.18.6.1.1)
                sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, frame),
            ),
            algorithm_id=method,
        )
        for number, line in enumerate(outlines, start=1)
    ]
    report = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        sr.CodedConcept("399208008", "SCT", "Plain chest X-ray"),
        [group, *regions],
    )
    # The template is extensible; whatever it has no place for is added as plain text.
    report[0].ContentSequence.extend(
        sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)
        for text in (NOTICE, card.calibration.assumed, *(WARNINGS[key] for key in finding.warnings))
    )
    return report


def scheme() -> pydicom.Dataset:
    """Return the description of `SCHEME` for the header of a report.

    Example:
        >>> scheme().CodingSchemeDesignator
        '99PNEUMOSCOPE'
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(SCHEME, name=f"Concepts of {NAME}", version=__version__)


def _concept(name: str, meaning: str) -> sr.CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(name, SCHEME, meaning)
