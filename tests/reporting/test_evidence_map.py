"""Overlays: the image stays readable, the colour says the sign, and noise is not blown up."""

from __future__ import annotations

import base64
import io
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.inference.finding import Finding
from pneumoscope.reporting import evidence_map
from tests.conftest import drawn_image


def image(height: int = 120, width: int = 160) -> NDArray[np.float32]:
    drawn = Image.fromarray(drawn_image(1, seed=3, size=64)).resize((width, height))
    return np.asarray(drawn, dtype=np.float32) / np.float32(255.0)


def cells(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def channels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image, dtype=np.int64)


@pytest.mark.parametrize("size", [(32, 32), (120, 160), (301, 97), (900, 1300)])
def test_the_image_keeps_its_size_and_the_legend_stands_below(size: tuple[int, int]) -> None:
    evidence = cells((1.0, -1.0), (0.5, 0.0))
    drawn = evidence_map.draw(image(*size), evidence)
    bare = evidence_map.draw(image(*size), evidence, legend=False)
    assert bare.size == (size[1], size[0])
    assert drawn.width == size[1]
    assert drawn.height > size[0]
    assert channels(drawn.crop((0, 0, *bare.size))).tolist() == channels(bare).tolist()


def test_a_radiograph_is_drawn_like_its_pixels() -> None:
    evidence = cells((1.0, -1.0))
    drawn = evidence_map.draw(Radiograph(image(), "PNG", 8, (120, 160)), evidence)
    assert channels(drawn).tolist() == channels(evidence_map.draw(image(), evidence)).tolist()


def test_orange_speaks_for_pneumonia_and_blue_against_it() -> None:
    drawn = channels(evidence_map.draw(image(), cells((1.0, -1.0)), legend=False))
    left, right = drawn[:, :40].mean((0, 1)), drawn[:, -40:].mean((0, 1))
    assert left[0] > left[1] > left[2]
    assert right[0] < right[1] < right[2]


def test_a_place_that_says_nothing_is_not_tinted() -> None:
    drawn = channels(evidence_map.draw(image(), np.zeros((4, 4), dtype=np.float32), legend=False))
    assert np.abs(drawn - np.rint(image() * 255)[..., None]).max() <= 1


def test_no_place_gets_the_colour_of_the_other_sign() -> None:
    evidence = np.zeros((5, 5), dtype=np.float32)
    evidence[2, 2] = 3.0
    drawn = channels(evidence_map.draw(image(), evidence, legend=False))
    assert (drawn[..., 0] >= drawn[..., 2]).all()


@pytest.mark.parametrize(
    ("finding", "unasked", "asked"), [("PNEUMONIA", True, True), ("NORMAL", False, True), (None, False, False)]
)
def test_a_map_that_would_be_read_as_a_finding_is_drawn_where_asked_for(
    finding: str | None, unasked: bool, asked: bool
) -> None:
    found = Finding("", finding=finding, evidence=cells((1.0, -1.0)) if finding else None)
    assert evidence_map.is_drawn(found) is unasked
    assert evidence_map.is_drawn(found, normals=True) is asked
    assert not evidence_map.is_drawn(Finding("", finding=finding), normals=True)


def test_the_image_shows_through_the_strongest_evidence() -> None:
    drawn = channels(evidence_map.draw(image(), cells((5.0,)), legend=False)).mean(axis=2)
    assert np.corrcoef(drawn.ravel(), image().ravel())[0, 1] > 0.99
    assert drawn.std() > 0.3 * 255 * image().std()


def test_noise_stays_pale() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 1.0, (6, 6)).astype(np.float32)
    faint, loud = (channels(evidence_map.draw(image(), size * noise, legend=False)) for size in (0.002, 1.0))
    assert np.ptp(faint, axis=2).max() < 15 < np.ptp(loud, axis=2).max()


def test_the_scale_is_the_largest_contribution_above_a_floor() -> None:
    assert evidence_map.scale_of(cells((0.5, -3.0))) == 3.0
    assert evidence_map.scale_of(np.full((2, 2), 1e-3)) == evidence_map.FULL_LOGIT / 4
    assert evidence_map.scale_of(np.stack([np.full((2, 2), 1.5), np.full((2, 2), -2.5)])) == 2.5


def test_a_shared_scale_makes_images_comparable() -> None:
    weak, strong = (
        channels(evidence_map.draw(image(), cells((value,)), scale=4.0, legend=False)) for value in (1.0, 4.0)
    )
    assert np.ptp(weak, axis=2).mean() * 2 < np.ptp(strong, axis=2).mean()


def test_a_thumbnail_is_shrunk_and_never_enlarged() -> None:
    evidence = cells((1.0, 0.0))
    assert evidence_map.draw(image(300, 400), evidence, max_side=100, legend=False).size == (100, 75)
    assert evidence_map.draw(image(30, 40), evidence, max_side=100, legend=False).size == (40, 30)


def test_the_legend_grows_with_the_image_and_has_words_at_any_size() -> None:
    heights = []
    for side in (224, 2000):
        drawn = evidence_map.draw(image(side, side), cells((1.0, -1.0)))
        strip = channels(drawn.crop((0, side, *drawn.size)))
        left, right = strip[: strip.shape[0] // 4, : side // 2], strip[: strip.shape[0] // 4, side // 2 :]
        assert left.max() > 200  # "towards normal"
        assert right.max() > 200  # "towards pneumonia"
        assert strip[-strip.shape[0] // 4 :].max() > 120  # "Not a medical device"
        heights.append(strip.shape[0])
    assert 40 < heights[0] < 100 < heights[1] < 500


def test_both_colours_are_equally_light() -> None:
    def lightness(colour: tuple[int, int, int]) -> float:
        """L* of CIE 1976 (ISO/CIE 11664-4) for an sRGB colour (IEC 61966-2-1)."""
        unit = np.array(colour) / 255
        linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
        return float(116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16)

    assert abs(lightness(evidence_map.TOWARDS_PNEUMONIA) - lightness(evidence_map.TOWARDS_NORMAL)) < 1


def test_a_saved_overlay_holds_nothing_but_pixels(tmp_path: Path) -> None:
    drawn = evidence_map.draw(image(), cells((1.0, -1.0)))
    drawn.info = {"icc_profile": b"x" * 200, "dpi": (72, 72), "Author": "Dr A"}
    path = tmp_path / "image.png"
    evidence_map.save(drawn, path)
    data, kinds, position = path.read_bytes(), set(), 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kinds.add(data[position + 4 : position + 8])
        position += 12 + length
    assert kinds == {b"IHDR", b"IDAT", b"IEND"}
    assert channels(Image.open(path)).tolist() == channels(drawn).tolist()


@pytest.mark.parametrize(
    ("shape", "cell_shape", "scale", "said"),
    [
        ((9, 9, 3), (2, 2), None, r"\(9, 9, 3\)"),
        ((9, 9), (2, 2, 2), None, r"\(2, 2, 2\)"),
        ((9, 9), (2, 2), 0.0, "above 0"),
        ((9, 9), (2, 2), float("nan"), "above 0"),
    ],
)
def test_what_cannot_be_drawn_is_rejected(
    shape: tuple[int, ...], cell_shape: tuple[int, ...], scale: float | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        evidence_map.draw(np.zeros(shape, np.float32), np.zeros(cell_shape, np.float32), scale=scale)


def test_even_the_narrowest_image_has_an_overlay() -> None:
    for width in (1, 2, 5, 9, 12):
        image = np.linspace(0, 1, 200 * width, dtype=np.float32).reshape(200, width)
        assert evidence_map.draw(image, np.ones((3, 3), dtype=np.float32)).width == width


def svg_images(svg: str) -> list[Image.Image]:
    found = re.findall(r"base64,([A-Za-z0-9+/=]+)", svg)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def saved_jpeg(path: Path, **options: object) -> Path:
    Image.fromarray((image() * 255).astype(np.uint8)).save(path, "JPEG", **options)
    return path


def test_the_layers_are_the_very_image_and_a_map_as_strong_as_it_is_opaque(tmp_path: Path) -> None:
    path = saved_jpeg(tmp_path / "image.jpeg")
    below, above = svg_images(evidence_map.layers(path, cells((2.0, -1.0))))
    assert np.array_equal(np.asarray(below), np.asarray(Image.open(path)))
    tint = np.asarray(above.convert("RGBA"), dtype=np.int64)
    assert tuple(tint[0, 0]) == (*evidence_map.TOWARDS_PNEUMONIA, round(255 * evidence_map.MAX_ALPHA))
    assert tuple(tint[0, -1, :3]) == evidence_map.TOWARDS_NORMAL
    assert tint[0, -1, 3] == pytest.approx(255 * evidence_map.MAX_ALPHA / 2, abs=2)


def test_the_layers_keep_the_images_size_and_say_the_sign(tmp_path: Path) -> None:
    svg = evidence_map.layers(saved_jpeg(tmp_path / "image.jpeg"), cells((1.0, -1.0)))
    root = ElementTree.fromstring(svg)
    sizes = {(image.get("width"), image.get("height")) for image in root.iter("{http://www.w3.org/2000/svg}image")}
    assert sizes == {("160", "120")}
    for words in ("towards normal", "towards pneumonia", "logit per cell", "Not a medical device"):
        assert words in svg


@pytest.mark.parametrize("name", ["image.png", "image.tiff"])
def test_an_image_that_browsers_may_not_show_is_laid_below_as_jpeg(tmp_path: Path, name: str) -> None:
    Image.fromarray((image() * 65535).astype(np.uint16)).save(tmp_path / name)
    below, _ = svg_images(evidence_map.layers(tmp_path / name, cells((1.0, -1.0))))
    assert below.format == "JPEG"
    assert np.abs(np.asarray(below) / 255 - image()).mean() < 0.02


def test_an_image_that_lies_on_its_side_stands_upright_below_its_map(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    below, _ = svg_images(evidence_map.layers(saved_jpeg(tmp_path / "image.jpeg", exif=turned), cells((1.0, -1.0))))
    assert below.size == (120, 160)


@pytest.mark.parametrize("progressive", [False, True])
def test_nobodys_name_travels_from_a_jpeg_into_its_overlay(tmp_path: Path, progressive: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "DOE^JANE"
    path = saved_jpeg(tmp_path / "image.jpeg", exif=exif, comment=b"DOE^JANE", xmp=b"DOE^JANE", progressive=progressive)
    hidden = b"".join(b"\xff" + bytes([kind]) + b"\x00\x14" + tag + b"DOE^JANE" + bytes(5) for kind, tag in (
        (0xE0, b"JFXX\0"), (0xE0, b"NAME\0"), (0xEE, b"NAME\0"), (0xE2, b"NAME\0")))  # fmt: skip
    path.write_bytes(path.read_bytes()[:2] + hidden + path.read_bytes()[2:] + b"DOE^JANE")
    svg = evidence_map.layers(path, cells((1.0, -1.0)))
    (first, _) = re.findall(r"base64,([A-Za-z0-9+/=]+)", svg)
    assert b"DOE^JANE" in path.read_bytes()
    assert b"DOE^JANE" not in base64.b64decode(first)
    assert np.array_equal(np.asarray(svg_images(svg)[0]), np.asarray(Image.open(path)))


@pytest.mark.images
def test_a_real_image_is_laid_below_untouched(data: Path) -> None:
    for path in sorted((data / "kermany_original" / "val").rglob("*.jpeg")):
        below, _ = svg_images(evidence_map.layers(path, cells((1.0, -1.0))))
        assert np.array_equal(np.asarray(below), np.asarray(Image.open(path)))


def test_an_address_holds_the_image_itself() -> None:
    drawn = evidence_map.draw(image(), cells((1.0, -1.0)))
    kind, _, data = evidence_map.data_address(drawn).partition(",")
    held = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/jpeg;base64"
    assert held.size == drawn.size
    assert np.abs(channels(held) - channels(drawn)).mean() < 3
