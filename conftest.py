"""What the examples in docstrings find: a few files under the names that they use, and things that are long to make.

An example runs in a folder of its own with these files in it, and knows each of `NAMES` that it mentions. What else it
uses, it makes or imports itself, or its module does.
"""

from __future__ import annotations

import ast
import doctest
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent
SAMPLES = ROOT / "src" / "pneumoscope" / "samples"


@pytest.fixture(autouse=True)
def _example(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give an example its files and names; nothing is made for other tests."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    names = request.node.dtest.globs
    examples = [one for one in request.node.dtest.examples if not one.options.get(doctest.SKIP)]
    source = "".join(example.source for example in examples)
    mentioned = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    names |= {name: NAMES[name]() for name in mentioned & NAMES.keys() - names.keys()}
    folder = request.getfixturevalue("tmp_path")
    shutil.copytree(request.getfixturevalue("example_files"), folder, dirs_exist_ok=True)
    with chdir(folder):
        yield


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what there is to read: a radiograph in some formats, data sets in some layouts, a model, recipes."""
    from PIL import Image

    from pneumoscope.inference import model_file

    folder = tmp_path_factory.mktemp("examples")
    for label in ("NORMAL", "PNEUMONIA"):
        for place in ("chest_xray/train", "chest_xray/test", "our_clinic"):
            (folder / place / label).mkdir(parents=True)
        for i, path in enumerate(sorted((SAMPLES / label).iterdir())):
            shutil.copy(path, folder / "our_clinic" / label)
            shutil.copy(path, folder / "chest_xray" / ("train" if i else "test") / label)
    normal, pneumonia = (sorted((SAMPLES / label).iterdir())[0] for label in ("NORMAL", "PNEUMONIA"))
    (folder / "images").mkdir()
    for name in ("image.png", "one.png", "images/a.png"):
        Image.open(normal).convert("L").resize((640, 512)).save(folder / name)
    Image.open(pneumonia).convert("L").save(folder / "two.png")
    Image.fromarray(np.kron(np.eye(8, dtype=np.uint8), np.full((64, 64), 255, np.uint8))).save(folder / "mask.png")
    shutil.copy(normal, folder / "image.jpeg")
    for name in ("image.dcm", "images/b.dcm"):
        (folder / name).write_bytes(_data())
    shutil.copy(model_file.default(), folder / "model.onnx")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (folder / "images.csv").write_text("path,label,patient\none.png,NORMAL,p1\ntwo.png,PNEUMONIA,p2\n")
    return folder


@cache
def _data() -> bytes:
    from PIL import Image
    from tests.builders import dicoms

    values = np.asarray(Image.open(SAMPLES / "PNEUMONIA" / "person1946_bacteria_4874.jpeg").convert("L"))
    window = {"WindowCenter": 1024, "WindowWidth": 4096, "WindowCenterWidthExplanation": "NORMAL"}
    return dicoms.filed(values.astype(np.uint16) * 16, RescaleSlope=1, RescaleIntercept=-1024, **window)


@cache
def _detector() -> Any:  # noqa: ANN401 - imported where it is needed, so that other tests start as fast as without
    from pneumoscope import Detector

    return Detector()


@cache
def _finding() -> Any:  # noqa: ANN401
    return next(_detector().examine(_data(), evidence=True))


def _dataset() -> Any:  # noqa: ANN401
    import pydicom

    return pydicom.dcmread(io.BytesIO(_data()))


def _header() -> Any:  # noqa: ANN401
    from pneumoscope.imaging.dicom import parser

    return parser.header(_data(), 10**8)


@cache
def _samples() -> Any:  # noqa: ANN401
    from pneumoscope.data import layouts

    return layouts.load(SAMPLES)


@cache
def _decoded() -> Any:  # noqa: ANN401
    from pneumoscope.data import splits

    return splits.decode(_samples(), _detector().card.input_size)


@cache
def _audited() -> Any:  # noqa: ANN401
    from pneumoscope.auditing import audit

    return audit.audit([replace(sample, split="train" if i % 3 else "test") for i, sample in enumerate(_samples())])


@cache
def _evaluation() -> Any:  # noqa: ANN401
    from pneumoscope.evaluation import evaluate

    return evaluate.evaluate(_samples(), _detector())


@cache
def _network() -> Any:  # noqa: ANN401
    from pneumoscope.networks import architectures

    return architectures.build("cnn", 32)


def _drawn() -> Any:  # noqa: ANN401
    from pneumoscope.imaging import radiograph
    from pneumoscope.reporting import evidence_map

    return np.asarray(evidence_map.draw(radiograph.read(_data()), _finding().evidence))


def _report() -> Any:  # noqa: ANN401
    from pneumoscope.reporting import structured_report

    return structured_report.structured_report(_finding(), _header(), _detector().card)


NAMES: dict[str, Callable[[], Any]] = {
    "audited": _audited,
    "card": lambda: _detector().card,
    "data": _data,
    "dataset": _dataset,
    "decoded": _decoded,
    "detector": _detector,
    "drawn": _drawn,
    "evaluation": _evaluation,
    "finding": _finding,
    "header": _header,
    "images": lambda: np.random.default_rng(0).uniform(size=(4, 32, 32)).astype(np.float32),
    "network": _network,
    "report": _report,
    "samples": _samples,
}
"""What an example may mention, and what makes it."""
