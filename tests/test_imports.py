"""What importing costs: the plain install predicts without a training framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FRAMEWORKS = ("tensorflow", "keras", "jax", "torch")
TRACKERS = ("mlflow", "tensorboard")
HEAVY = (*FRAMEWORKS, *TRACKERS, "sklearn", "scipy", "matplotlib", "pandas", "onnx", "onnxruntime", "ray", "pyarrow")


def imported_by(code: str) -> set[str]:
    code = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_importing_pneumoscope_imports_no_heavy_library() -> None:
    assert not imported_by("import pneumoscope, pneumoscope.cli.main") & set(HEAVY)


def test_predicting_imports_no_heavy_library(tiny_model: Path, tmp_path: Path) -> None:
    from PIL import Image

    from tests.conftest import drawn_image

    image = tmp_path / "image.png"
    Image.fromarray(drawn_image(1, 3)).save(image)
    arguments = ["predict", str(image), "-m", str(tiny_model)]
    call = f"from pneumoscope.cli.main import app; app({arguments!r}, standalone_mode=False)"
    assert not imported_by(call) & {*HEAVY, "pydicom", "imagecodecs", "highdicom"}


def test_completing_in_a_shell_imports_no_heavy_library() -> None:
    asked = {"_PNEUMOSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": "pneumoscope predict --f", "COMP_CWORD": "2"}
    code = f"import contextlib, os\nos.environ |= {asked!r}\nfrom pneumoscope.cli.main import app\n"
    code += "with contextlib.suppress(SystemExit): app(prog_name='pneumoscope')"
    assert not imported_by(code) & {*HEAVY, "rich", "openvino", "pydicom"}
