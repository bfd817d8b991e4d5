"""What importing costs: the plain install predicts without a training framework, and the floors only go down."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pneumoscope"
FRAMEWORKS = ("tensorflow", "keras", "jax", "torch")
TRACKERS = ("mlflow", "tensorboard")
HEAVY = (*FRAMEWORKS, *TRACKERS, "sklearn", "scipy", "matplotlib", "pandas", "onnx", "onnxruntime", "ray", "pyarrow")

FLOORS = (
    "errors atomic radiograph dicom dicom_header dicom_frames dicom_display picture dataset stored splits download "
    "sources stress outline frame strangers drawings metrics operating_point calibration overlay thorax curves copies "
    "shortcuts faults audit",
    "detector engines model_file gate views architectures graph augmentation recipe devices tracking epochs "
    "preparation finishing training evaluation adaptation export litert dicom_report",
    "cli commands_data commands_films commands_models options console report figures findings audit_page service "
    "storage listing archive scorer passes cluster "
    "__main__",
)


def imported_by(code: str) -> set[str]:
    code = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_importing_pneumoscope_imports_no_heavy_library() -> None:
    assert not imported_by("import pneumoscope, pneumoscope.cli") & set(HEAVY)


def test_predicting_imports_no_heavy_library(tiny_model: Path, tmp_path: Path) -> None:
    from PIL import Image

    from tests.conftest import drawn_film

    film = tmp_path / "film.png"
    Image.fromarray(drawn_film(1, 3)).save(film)
    arguments = ["predict", str(film), "-m", str(tiny_model)]
    call = f"from pneumoscope.cli import app; app({arguments!r}, standalone_mode=False)"
    assert not imported_by(call) & {*HEAVY, "pydicom", "imagecodecs", "highdicom"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_an_import_only_goes_down(path: Path) -> None:
    own = path.stem if path.parent == SOURCE else path.parent.name
    if own == "__init__":
        return
    floor = next(number for number, rooms in enumerate(FLOORS) if own in rooms.split())
    allowed = set(" ".join(FLOORS[: floor + 1]).split())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pneumoscope"):
            room = node.module.partition(".")[2].partition(".")[0]
            names = [room] if room else [alias.name for alias in node.names]
            assert set(names) <= allowed, f"{path.name} imports {names}"
