"""`dicom_frames`: every compression that images travel in gives the image that went in."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG4HP41,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from pneumoscope.errors import UnreadableError, UnsupportedError
from pneumoscope.imaging.dicom import frames as dicom_frames
from pneumoscope.imaging.dicom.decoder import decode
from tests.builders.dicoms import LIMIT, RAMP, compressed, image
from tests.conftest import drawn_image

IMAGE = drawn_image(1, seed=3, size=64)
DEEP = IMAGE.astype(np.uint16) * 16 + np.indices(IMAGE.shape).sum(axis=0, dtype=np.uint16) % 16
WIDE: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}

Encode = Callable[[NDArray[Any]], bytes]


def jpeg(**options: Any) -> Encode:
    return lambda values: bytes(imagecodecs.jpeg8_encode(values, **options))


def jpeg_ls(**options: Any) -> Encode:
    return lambda values: bytes(imagecodecs.jpegls_encode(values, **options))


def jpeg_2000(**options: Any) -> Encode:
    return lambda values: bytes(imagecodecs.jpeg2k_encode(values, **options))


LOSSLESS = {
    JPEGLossless: jpeg(lossless=True, bitspersample=12, predictor=6),
    JPEGLosslessSV1: jpeg(lossless=True, bitspersample=12, predictor=1),
    JPEGLSLossless: jpeg_ls(),
    JPEG2000Lossless: jpeg_2000(codecformat="j2k", reversible=True, level=0),
}
LOSSY = {
    JPEGExtended12Bit: jpeg(level=98, bitspersample=12),
    JPEGLSNearLossless: jpeg_ls(level=3),
    JPEG2000: jpeg_2000(codecformat="j2k", level=90),
}


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_an_image_compressed_without_loss_is_the_image_that_went_in(syntax: UID) -> None:
    pixels, bits, _ = decode(compressed(DEEP, LOSSLESS[syntax](DEEP), syntax, **WIDE), LIMIT)
    assert bits == 12
    assert pixels == pytest.approx(DEEP / 4095, abs=1e-6)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda syntax: syntax.name)
def test_an_image_compressed_with_loss_is_nearly_the_image_that_went_in(syntax: UID) -> None:
    pixels, bits, _ = decode(compressed(DEEP, LOSSY[syntax](DEEP), syntax, **WIDE), LIMIT)
    assert bits == 12
    assert pixels == pytest.approx(DEEP / 4095, abs=0.01)


def test_a_baseline_jpeg_of_8_bits_is_nearly_the_image_that_went_in() -> None:
    data = compressed(IMAGE, jpeg(level=98)(IMAGE), JPEGBaseline8Bit, WindowCenter=128, WindowWidth=256)
    assert decode(data, LIMIT)[0] == pytest.approx(IMAGE / 255, abs=0.02)


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_a_baseline_jpeg_in_colour_is_weighed_to_brightness(photometric: str) -> None:
    colour = np.stack([IMAGE, IMAGE // 2, 255 - IMAGE], axis=-1)
    data = compressed(colour, jpeg(level=98)(colour), JPEGBaseline8Bit, PhotometricInterpretation=photometric)
    assert decode(data, LIMIT)[0] == pytest.approx(colour @ [0.299, 0.587, 0.114] / 255, abs=0.02)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_compressed_image_that_was_cut_off_is_unreadable_and_not_of_another_kind(share: float) -> None:
    data = compressed(IMAGE, jpeg(level=98)(IMAGE), JPEGBaseline8Bit)
    start = data.index(b"\xe0\x7f\x10\0") + 20
    with pytest.raises(UnreadableError, match="The end of the DICOM file is missing: copy it again"):
        decode(data[: start + int(share * (len(data) - start))], LIMIT)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("damage", ["zeroed", "shifted"])
def test_a_jpeg_of_8_bits_with_damage_that_decoders_pass_over_is_rejected(samples: int, damage: str) -> None:
    values = IMAGE if samples == 1 else np.stack([IMAGE, IMAGE // 2, 255 - IMAGE], axis=-1)
    whole = jpeg(level=98)(values)
    half = len(whole) // 2 + 100
    rest = {"zeroed": bytes(len(whole) - half - 2), "shifted": whole[half + 200 : -2]}[damage]
    assert decode(compressed(values, whole, JPEGBaseline8Bit), LIMIT)[0].shape == IMAGE.shape
    with pytest.raises(UnreadableError):
        decode(compressed(values, whole[:half] + rest + whole[-2:], JPEGBaseline8Bit), LIMIT)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("options", [{"level": 90}, {"level": 90, "subsampling": "420"}, {"lossless": True}], ids=str)
def test_a_jpeg_of_8_bits_gives_the_pixels_that_other_decoders_give(options: dict[str, Any], samples: int) -> None:
    values = IMAGE if samples == 1 else np.stack([IMAGE, IMAGE[::-1], IMAGE.T], axis=-1)
    frame = jpeg(**options)(values)
    found = dicom_frames.first(dcmread(BytesIO(compressed(values, frame, JPEGBaseline8Bit)), force=True))
    np.testing.assert_array_equal(found, imagecodecs.jpeg8_decode(frame))


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_negative_values_stay_negative_in_compressed_images(syntax: UID) -> None:
    """Most codecs know no sign: the header alone says that the highest bit is one."""
    signed = DEEP.astype(np.int16) - 2048
    bare = (signed & 4095).astype(np.uint16)
    if syntax == RLELossless:
        data = image(signed, RLELossless, WindowCenter=0, WindowWidth=4096)
    else:
        data = compressed(signed, LOSSLESS[syntax](bare), syntax, WindowCenter=0, WindowWidth=4096)
    assert decode(data, LIMIT)[0] == pytest.approx(DEEP / 4095, abs=1e-6)


def test_a_syntax_that_names_the_wrong_codec_does_no_harm() -> None:
    for named, real in ((JPEGBaseline8Bit, JPEG2000Lossless), (JPEG2000, JPEGLSLossless), (HTJ2K, JPEGLosslessSV1)):
        data = compressed(DEEP, LOSSLESS[real](DEEP), named, **WIDE)
        assert decode(data, LIMIT)[0] == pytest.approx(DEEP / 4095, abs=1e-6)


def test_a_syntax_that_names_a_codec_where_there_is_none_does_no_harm() -> None:
    data = image(DEEP, **WIDE).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert decode(data, LIMIT)[0] == pytest.approx(DEEP / 4095, abs=1e-6)


def test_a_jpeg_2000_file_in_place_of_a_codestream_is_read() -> None:
    frame = jpeg_2000(codecformat="jp2", reversible=True, level=0)(DEEP)
    assert decode(compressed(DEEP, frame, JPEG2000Lossless, **WIDE), LIMIT)[0] == pytest.approx(DEEP / 4095, abs=1e-6)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_of_several_compressed_frames_the_first_is_read(syntax: UID) -> None:
    encode = LOSSLESS[syntax]
    for has_table in (True, False):
        frames = encapsulate([encode(DEEP), encode(RAMP)], has_bot=has_table)
        data = image(DEEP, syntax, PixelData=frames, NumberOfFrames=2, **WIDE)
        pixels, _, notes = decode(data, LIMIT)
        assert notes == ("first_frame_only",)
        assert pixels == pytest.approx(DEEP / 4095, abs=1e-6)


def test_a_frame_in_several_fragments_is_put_together() -> None:
    frame = LOSSLESS[JPEG2000Lossless](DEEP)
    data = image(DEEP, JPEG2000Lossless, PixelData=encapsulate([frame], fragments_per_frame=3), **WIDE)
    assert decode(data, LIMIT)[0] == pytest.approx(DEEP / 4095, abs=1e-6)


def test_a_compression_that_cannot_be_decoded_is_unsupported_and_named() -> None:
    data = compressed(IMAGE, b"\0\0\0\x18ftypmp42" + bytes(500), MPEG4HP41)
    with pytest.raises(
        UnsupportedError, match=r"that can be decoded here, got one in 'MPEG-4 .*export it uncompressed"
    ):
        decode(data, LIMIT)


def test_a_syntax_from_nobodys_list_is_never_quoted() -> None:
    data = compressed(IMAGE, b"unknown" * 50, JPEG2000).replace(JPEG2000.encode(), b"1.2.3.4.19010203.00000")
    with pytest.raises(UnsupportedError, match="got one in an unknown compression") as caught:
        decode(data, LIMIT)
    assert "19010203" not in str(caught.value)


def test_an_image_of_twice_the_bytes_that_its_header_says_is_damaged_and_one_of_a_few_more_is_not() -> None:
    with pytest.raises(UnreadableError, match="disagree about its size"):
        decode(image(DEEP, Rows=DEEP.shape[0] // 2), LIMIT)
    assert decode(image(DEEP, PixelData=DEEP.tobytes() + bytes(10)), LIMIT)[0].shape == DEEP.shape


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY], ids=lambda syntax: syntax.name)
def test_a_frame_of_another_size_than_its_header_says_is_damaged(syntax: UID) -> None:
    """It could ask for any amount of memory."""
    encode = (LOSSLESS | LOSSY)[syntax]
    with pytest.raises(UnreadableError, match="disagree about its size"):
        decode(compressed(DEEP, encode(DEEP[:32]), syntax), LIMIT)


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY, JPEGBaseline8Bit], ids=lambda syntax: syntax.name)
def test_a_frame_without_its_end_is_never_a_half_gray_image(syntax: UID) -> None:
    values = IMAGE if syntax == JPEGBaseline8Bit else DEEP
    frame = (LOSSLESS | LOSSY | {JPEGBaseline8Bit: jpeg(level=98)})[syntax](values)
    for cut in range(2, len(frame) - 2, max(1, len(frame) // 20)):
        with pytest.raises((UnreadableError, UnsupportedError)):
            decode(compressed(values, frame[:cut], syntax), LIMIT)


def test_run_lengths_that_are_too_short_or_of_another_depth_are_damaged() -> None:
    data = image(DEEP, RLELossless)
    start = data.index(b"\x02\0\0\0\x40\0\0\0")
    with pytest.raises(UnreadableError, match="disagree about its depth"):
        decode(data[:start] + b"\x03" + data[start + 1 :], LIMIT)
    with pytest.raises(UnreadableError, match=r"The end of the image is missing|file is damaged"):
        decode(data[: start + 8] + b"\x48\0\0\0" + data[start + 12 :], LIMIT)


# Without the delimiter behind the frame


def encoded(syntax: UID) -> bytes:
    if syntax == RLELossless:
        return image(RAMP, RLELossless)
    if syntax == JPEGBaseline8Bit:
        values = (RAMP // 16).astype(np.uint8)
        return compressed(values, bytes(imagecodecs.jpeg8_encode(values)), syntax)
    encode = imagecodecs.jpegls_encode if syntax == JPEGLSLossless else imagecodecs.jpeg2k_encode
    options: dict[str, Any] = {} if syntax == JPEGLSLossless else {"codecformat": "j2k", "reversible": True, "level": 0}
    return compressed(RAMP, bytes(encode(RAMP, **options)), syntax)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("end", [b"", bytes(8), bytes(100)], ids=["none", "zeroed", "padded"])
def test_a_whole_frame_needs_no_delimiter(syntax: UID, end: bytes) -> None:
    whole = encoded(syntax)
    delimiter = b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert whole.endswith(delimiter)
    assert np.array_equal(decode(whole[:-8] + end, LIMIT)[0], decode(whole, LIMIT)[0])


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("lost", [16, 200])
def test_a_frame_without_its_own_end_is_unreadable(syntax: UID, lost: int) -> None:
    with pytest.raises(UnreadableError):
        decode(encoded(syntax)[: -8 - lost], LIMIT)
