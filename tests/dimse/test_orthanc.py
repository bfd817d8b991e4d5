"""With a real Orthanc: images are routed here, reports end in their studies, whatever is killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynetdicom", reason="the DICOM node is not installed")
pytest.importorskip("highdicom", reason="DICOM reports are not installed")

from PIL import Image

from tests.builders.dicoms import filed
from tests.builders.hospital import Orthanc, Program, free_port, listening, orthanc, until
from tests.dimse.test_listen import WithCapture, image

pytestmark = orthanc


def test_a_radiograph_in_orthanc_gets_a_report_and_a_capture_in_its_study(tmp_path: Path) -> None:
    port = free_port()
    with Orthanc(tmp_path / "orthanc", port) as archive:
        studies = [archive.put(image(seed)) for seed in range(2)]  # while Pneumoscope is not there yet
        with listening(tmp_path / "spool", archive.node, worker=WithCapture(), port=port) as node:
            studies += [archive.put(image(seed)) for seed in range(2, 4)]
            until(lambda: archive.instances() >= 12)
            until(lambda: node._outgoing() == 0)
        assert [archive.modalities(study) for study in studies] == [["DX", "OT", "SR"]] * 4
        assert archive.instances() == 12


@pytest.mark.images
def test_the_shipped_model_reports_on_real_radiographs_over_kills_of_both_sides(data: Path, tmp_path: Path) -> None:
    port = free_port()
    archive = Orthanc(tmp_path / "orthanc", port)
    arguments = ["--port", str(port), "--send-to", str(archive.node), "--spool", str(tmp_path / "spool")]
    program = Program(arguments, tmp_path / "log")
    paths = sorted((data / "kermany_original" / "val" / "PNEUMONIA").iterdir())[:3]  # normals have no evidence image
    images = [filed(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16) for path in paths]
    with archive:
        program.start()
        studies = [archive.put(image) for image in images]
        until(lambda: archive.instances() > len(images))
        program.kill()
    with archive:
        program.start()
        until(lambda: archive.instances() == 3 * len(images), 120.0)
        assert [archive.modalities(study) for study in studies] == [["DX", "OT", "SR"]] * len(images)
        assert program.stop() == 0
