"""A table of public data sets: where they are, their licences, and how they are verified."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pneumoscope.errors import NotFoundError

BUNDLED = Path(__file__).parents[1] / "samples"
"""Six of Kermany's radiographs, in `NORMAL/` and `PNEUMONIA/`, which come with the package."""


@dataclass(frozen=True)
class DataSource:
    """One public data set, a row of `SOURCES`.

    Attributes:
        name: what `fetch` takes.
        title: what it holds.
        citation: the attribution that its licence requires.
        page: the web page that describes it and offers the download.
        archive: the name of the file that is downloaded.
        counts: the number of images in each split or folder.
        url: the address of `archive`; empty if it comes in a package.
        package: the requirement of the Python package whose wheel is `archive`.
        checksum: `md5:...` or `sha256:...` of `archive`; None if none is published, in which case `counts` are checked.
        sums: sha256 of each image to keep, by its place; empty if `counts` say what to keep.
        bytes: the approximate size of `archive`.
        note: what a user of the images should know.
        licence: the licence of its images.
    """

    name: str
    title: str
    citation: str
    page: str
    archive: str
    counts: Mapping[str, int]
    url: str = ""
    package: str = ""
    checksum: str | None = None
    sums: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    note: str = ""
    licence: str = "CC BY 4.0"

    @property
    def target(self) -> str:
        """The name of the fetched data set: a MedMNIST archive stays packed, others become a folder."""
        return self.archive if self.archive.endswith(".npz") else self.name

    @property
    def images(self) -> int:
        """The number of images in all."""
        return sum(self.counts.values())

    @property
    def credit(self) -> str:
        """Two lines of attribution that the licence requires."""
        return f"{self.title}. {self.note}\n{self.citation}. Licence: {self.licence}."

    def steps(self, dest: str | Path | None = None) -> tuple[str, ...]:
        """Return the steps for downloading the data set by hand; the last step verifies it.

        Args:
            dest: the folder that will hold the data set; None for `folder()`.

        Example:
            >>> SOURCES["kermany"].steps("data")[1]
            'Put ChestXRay2017.zip, as it is, into "data".'
        """
        how = f"open {self.page} and download {self.archive} ({self.licence})."
        if self.package:
            how = f"run: python -m pip download --no-deps --only-binary :all: {self.package}"
        return (
            f"On a machine with a connection, {how}",
            f'Put {self.archive}, as it is, into "{folder(dest)}".',
            f'Run: pneumoscope fetch {self.name} --dest "{folder(dest)}"',
        )


_KERMANY = (
    "Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
    "Classification. Mendeley Data, V2, 2018. doi:10.17632/rscbjbr9sj.2"
)
_MEDMNIST = (
    "Yang J, Shi R, Wei D, et al. MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification. Scientific Data 10, 41, 2023. doi:10.1038/s41597-022-01721-8"
)

# In the format of `sha256sum`.
_SAMPLES = """\
95fe6dd24fc010ee526e40457ff34ef057d257c71b22ac9fd312094d4d7b2a37 NORMAL/NORMAL2-IM-1427-0001.jpeg
ba2d0ff79c2758dc75331c3242dfc05b0108df3affc5402b55b6d9b81f44c2a0 NORMAL/NORMAL2-IM-1430-0001.jpeg
1eab167cd836a153ddeb61a0e59ff21b276fb79b0aab70491605a77ffc52f4ac NORMAL/NORMAL2-IM-1431-0001.jpeg
1b96b8ba4d279362a396c2864f76eb3f30ba910f63573491ed2203b4e728f5c7 NORMAL/NORMAL2-IM-1436-0001.jpeg
a73c06abbb473b57c90374424f86f0d7876bdbdb5c3ed8c681e4bd6f09778c38 NORMAL/NORMAL2-IM-1437-0001.jpeg
19deafbd4cb13b7bca7e9c83466066c0d0c9e1678861519dcb1d0a45a79b0362 NORMAL/NORMAL2-IM-1438-0001.jpeg
91c3cb7e4c579b7f9d7f48780575caacfbc51898841cdc0d0d1a388bbba47203 NORMAL/NORMAL2-IM-1440-0001.jpeg
d30b85c96b78dabe1ddf05867a687dffe7a9a067cd72485abace2fc959c2a503 NORMAL/NORMAL2-IM-1442-0001.jpeg
8bbf92ad61e43b7ff8c12eff396594cfbc631e4a1daff80deba3d929f6199cb0 PNEUMONIA/person1946_bacteria_4874.jpeg
905a703da2ca12326f2d88ce9b9823290bad97e98c8179e77393c56f86978caa PNEUMONIA/person1946_bacteria_4875.jpeg
a10dda144959f77c7589b2c874da00d9649e34ee96660b87ef8d720083524154 PNEUMONIA/person1947_bacteria_4876.jpeg
5bde846e4a137b37e568c66a61752b4c5cfe2057b0f4af6bfd3cfab3db1202b8 PNEUMONIA/person1949_bacteria_4880.jpeg
e1d5161b6a6d82ccbee47fd8dfb1a6d44eded1d7e4f164121dd2a229bdc43f5d PNEUMONIA/person1950_bacteria_4881.jpeg
1136fa7a74528c4b6dd55b7318dedefdbc7b523db09928b1ebdf276fef31f08b PNEUMONIA/person1951_bacteria_4882.jpeg
3fef55b2ba3c51c66ad41122ed4f640c19bb549d850d53fbbe3a4f18d9eb4e82 PNEUMONIA/person1952_bacteria_4883.jpeg
9904f0fec6adc349c35452fa9909721b9dfcb02a254c76b9d329f3432151ed39 PNEUMONIA/person1954_bacteria_4886.jpeg
"""

# By image side: the md5 in the `medmnist` package 3.0.2, and the approximate size in bytes.
_PNEUMONIAMNIST = {
    28: ("28209eda62fecd6e6a2d98b1501bb15f", 4_200_000),
    64: ("8f4eceb4ccffa70c672198ea285246c6", 20_600_000),
    128: ("05b46931834c231683c68f40c47b2971", 76_000_000),
    224: ("d6a3c71de1b945ea11211b03746c1fe1", 214_400_000),
}


def _pneumoniamnist(size: int) -> DataSource:
    md5, count = _PNEUMONIAMNIST[size]
    name = "pneumoniamnist" if size == 28 else f"pneumoniamnist_{size}"
    page = "https://zenodo.org/records/10519652"
    return DataSource(
        name=name,
        title=f"PneumoniaMNIST: Kermany's images, cropped and shrunk to {size} x {size}",
        citation=f"{_MEDMNIST}; {_KERMANY}",
        page=page,
        archive=f"{name}.npz",
        counts={"train": 4708, "val": 524, "test": 624},
        url=f"{page}/files/{name}.npz?download=1",
        checksum=f"md5:{md5}",
        bytes=count,
        note="The same children as `kermany`: no independent test of a model trained on those.",
    )


_ROWS = (
    DataSource(
        name="samples",
        title="Kermany's validation split: 16 chest radiographs of children at their original size",
        citation=_KERMANY,
        page="https://data.mendeley.com/datasets/rscbjbr9sj/2",
        archive="pneumonia_model_package-0.3.0-py3-none-any.whl",
        counts={"NORMAL": 8, "PNEUMONIA": 8},
        package="pneumonia-model-package==0.3.0",
        checksum="sha256:4bb1ee80366db5de818c7255e62878871b8ec545681193f429e2575b791d3536",
        sums={place: sha256 for sha256, place in map(str.split, _SAMPLES.splitlines())},
        bytes=83_366_975,
        note="Enough to see the tool work, too few to measure it.",
    ),
    *map(_pneumoniamnist, _PNEUMONIAMNIST),
    DataSource(
        name="kermany",
        title="Kermany's collection: 5,856 chest radiographs of children at their original size",
        citation=_KERMANY,
        page="https://data.mendeley.com/datasets/rscbjbr9sj/2",
        archive="ChestXRay2017.zip",
        # Kermany et al., Cell 172, 2018, doi:10.1016/j.cell.2018.02.010. Only Kaggle's copy has a `val`.
        counts={"train/NORMAL": 1349, "train/PNEUMONIA": 3883, "test/NORMAL": 234, "test/PNEUMONIA": 390},
        url="https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
        "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
        bytes=1_236_000_000,
        note="No published checksum is known: the images of each split and class are counted instead.",
    ),
)

SOURCES: dict[str, DataSource] = {row.name: row for row in _ROWS}
"""The public data sets by name."""


def find(name: str) -> DataSource:
    """Look up a data set by name.

    Raises:
        NotFoundError: there is no such name; the message lists the known ones.

    Example:
        >>> find("samples").images
        16
    """
    if name not in SOURCES:
        raise NotFoundError(f"Expected one of {', '.join(SOURCES)}, got '{name}'.")
    return SOURCES[name]


def folder(dest: str | Path | None = None) -> Path:
    """Return the folder for data sets: `dest`, `PNEUMOSCOPE_CACHE`, or `pneumoscope` in the user's cache folder.

    Example:
        >>> folder()
        PosixPath('/.../pneumoscope')
    """
    if dest is not None:
        return Path(dest)
    if chosen := os.environ.get("PNEUMOSCOPE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pneumoscope")
