"""What is written beside the findings: images with their evidence maps, and DICOM reports."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pneumoscope.atomic import replacing
from pneumoscope.errors import PneumoscopeError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import DICOM_SUFFIXES, OVERLAY_SUFFIXES
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting.writers import NO_REPORT, Report

LONGEST = 200
"""Bytes of an image's name that the name of its evidence map keeps; with its ending it may have no more than 255."""


class Overlays:
    """Writes images with their evidence maps into a folder, each under a name of its own.

    Args:
        folder: made when the first image is written.
        suffix: one of `radiograph.OVERLAY_SUFFIXES`: SVG, or PNG.
        normals: whether images without pneumonia are drawn, too.
    """

    def __init__(self, folder: Path, suffix: str = OVERLAY_SUFFIXES[0], normals: bool = False) -> None:
        self.folder, self.suffix, self.normals = folder, suffix, normals
        self._taken: set[str] = set()

    def write(self, finding: Finding) -> Path | None:
        """Draw one image, where `evidence_map.is_drawn`; an image without a finding has no overlay."""
        from pneumoscope.reporting import evidence_map

        if finding.evidence is None or not evidence_map.is_drawn(finding, normals=self.normals):
            return None
        stem = Path(finding.path).stem or "image"
        if len(os.fsencode(stem)) > LONGEST:
            stem = os.fsencode(stem)[:LONGEST].decode("utf-8", "ignore")
        name, n = stem, 1
        while name.casefold() in self._taken:  # some file systems ignore case
            n += 1
            name = f"{stem}-{n}"
        self._taken.add(name.casefold())
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{name}{self.suffix}"  # never the name of an image
        with replacing(target) as draft:
            if self.suffix.endswith(".svg"):
                evidence_map.save_layers(finding.path, finding.evidence, draft)
            else:
                evidence_map.save(evidence_map.draw(radiograph.read(finding.path), finding.evidence), draft)
        return target


class Reports:
    """Writes a DICOM report, and the image with its evidence map where there is one, for each image that came as DICOM.

    The files are named by their new SOP Instance UIDs: patient and study stand in them and nowhere else.

    Args:
        folder: made when the first report is written.
        card: of the model.
        normals: whether the evidence maps of images without pneumonia are drawn, too.

    Attributes:
        without: how many images got no report, by the reason.
        failed: how many of them should have had one.

    Raises:
        MissingExtraError: highdicom is not installed.
    """

    def __init__(self, folder: Path, card: Card, normals: bool = False) -> None:
        from pneumoscope.reporting import structured_report

        structured_report.check_installed()
        self.folder, self.card, self.normals = folder, card, normals
        self.without: Counter[str] = Counter()
        self.failed = 0

    def write(self, finding: Finding) -> Report:
        """Write what belongs to one image, and say where it is, or why there is none; the finding stays as it is."""
        if finding.error is not None:
            self.without["not read"] += 1
            return NO_REPORT
        try:
            report = self._write(finding)
        except PneumoscopeError as error:
            report = Report(error=error)
        except OSError as error:
            report = Report(error=UnsupportedError(f"The report cannot be written ({error.strerror})."))
        if report.error is not None:
            self.failed += 1
            self.without["that could not be written"] += 1
        return report

    def _write(self, finding: Finding) -> Report:
        from pneumoscope.reporting import structured_report

        data = radiograph.read_bytes(Path(finding.path))
        if not radiograph.is_dicom(data):
            self.without["no DICOM files"] += 1
            return NO_REPORT
        files = [
            (made.SOPInstanceUID, structured_report.encode(made))
            for made in structured_report.objects(finding, data, self.card, normals=self.normals)
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        targets = [self.folder / f"{uid}{suffix}" for (uid, _), suffix in zip(files, DICOM_SUFFIXES, strict=False)]
        for (_, file), target in zip(files, targets, strict=True):
            with replacing(target) as draft:
                draft.write_bytes(file)
        return Report(targets[0])
