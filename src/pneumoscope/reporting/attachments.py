"""Writes the files that accompany findings: evidence maps and DICOM reports."""

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
"""Bytes of an image's name that are kept in the name of its evidence map, which is limited to 255 with its suffix."""


class Overlays:
    """Writes images with their evidence maps into a folder, each under a unique name.

    Args:
        folder: the folder, which is created when the first image is written.
        suffix: one of `radiograph.OVERLAY_SUFFIXES`, for SVG or PNG.
        normals: whether to draw images without pneumonia too.
    """

    def __init__(self, folder: Path, suffix: str = OVERLAY_SUFFIXES[0], normals: bool = False) -> None:
        self.folder, self.suffix, self.normals = folder, suffix, normals
        self._taken: set[str] = set()

    def write(self, finding: Finding) -> Path | None:
        """Draw one image if `evidence_map.is_drawn`; return the file, or None."""
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
        target = self.folder / f"{name}{self.suffix}"
        with replacing(target) as draft:
            if self.suffix.endswith(".svg"):
                evidence_map.save_layers(finding.path, finding.evidence, draft)
            else:
                evidence_map.save(evidence_map.draw(radiograph.read(finding.path), finding.evidence), draft)
        return target


class Reports:
    """Writes a DICOM report, and the evidence map if there is one, for each DICOM image.

    The files are named by their new SOP Instance UIDs, so that only their content identifies patient and study.

    Args:
        folder: the folder, which is created when the first report is written.
        card: the card of the model.
        normals: whether to draw the evidence maps of images without pneumonia too.

    Attributes:
        without: the number of images without a report, by reason.
        failed: the number of images whose report could not be written.

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
        """Write the objects for one image; return the report's path, or why there is none."""
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
