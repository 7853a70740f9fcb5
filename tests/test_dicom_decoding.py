"""Pixels of every transfer syntax are read as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID
from support import ct_files as make

from lungct.dicom import read_series
from lungct.dicom.codecs import CODECS, broken_decoders
from lungct.errors import SeriesError

BITS = [
    (16, 12, False),
    (16, 16, True),
    (16, 13, True),
    (16, 16, False),
    (8, 8, False),
    (8, 8, True),
]


@pytest.mark.parametrize(("allocated", "stored", "signed"), BITS)
@pytest.mark.parametrize("syntax", make.LOSSLESS)
def test_lossless_syntaxes_return_the_same_integers(
    tmp_path: Path, syntax: str, allocated: int, stored: int, signed: bool
) -> None:
    make.write_series(
        tmp_path, slices=2, rows=31, columns=45, transfer_syntax=syntax, bits_allocated=allocated,
        bits_stored=stored, signed=signed,
    )  # fmt: skip
    series = read_series(tmp_path)
    for i in range(2):
        pixels = series.stored(i)
        expected = make.noise(31, 45, bits_stored=stored, signed=signed, seed=i)
        assert pixels.dtype == make.pixel_type(allocated, signed)
        np.testing.assert_array_equal(pixels, expected)


def test_32_bits(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=1, bits_allocated=32, bits_stored=20, signed=True)
    series = read_series(tmp_path)
    expected = make.noise(64, 64, bits_stored=20, signed=True)
    np.testing.assert_array_equal(series.stored(0), expected)
    np.testing.assert_array_equal(series.hu(0), (expected - 1024).astype(np.float32))


@pytest.mark.parametrize(
    ("syntax", "allocated", "bits", "error"),
    [
        (make.JPEG_BASELINE, 8, 8, 2),
        (make.JPEG_EXTENDED, 16, 12, 4),
        (make.JPEG_LS_NEAR, 16, 12, 2),
        (make.JPEG_2000, 16, 12, 40),
    ],
)
def test_lossy_syntaxes_return_similar_integers(
    tmp_path: Path, syntax: str, allocated: int, bits: int, error: int
) -> None:
    make.write_series(tmp_path, slices=1, transfer_syntax=syntax, bits_allocated=allocated, bits_stored=bits)
    difference = read_series(tmp_path).stored(0) - make.noise(64, 64, bits_stored=bits)
    assert 0 < np.abs(difference).max() <= error


@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.BIG_ENDIAN, make.DEFLATED, make.RLE])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_the_stored_ones_are_ignored_as_pydicom_does(tmp_path: Path, syntax: str, signed: bool) -> None:
    pixels = make.noise(64, 64, bits_stored=12, signed=signed)
    overlaid = (pixels & 0x0FFF) | 0x3000
    make.write_series(tmp_path, slices=1, pixels=lambda i: overlaid, signed=signed, transfer_syntax=syntax)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.stored(0), pixels)
    np.testing.assert_array_equal(series.stored(0), dcmread(series.slices[0].path).pixel_array)


def test_high_bit_shifts_the_stored_bits(tmp_path: Path) -> None:
    pixels = make.noise(64, 64, bits_stored=12)
    make.write_series(tmp_path, slices=1, pixels=lambda i: pixels << 4, tags={"HighBit": 15})
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), pixels)


def test_jpeg_2000_that_contradicts_pixel_representation(tmp_path: Path) -> None:
    """The codestream has 13 bits unsigned, the header 13 bits signed: the header is right (pydicom's rule)."""
    import imagecodecs
    from pydicom.encaps import encapsulate

    pixels = make.noise(64, 64, bits_stored=13, signed=True)
    (path,) = make.write_series(
        tmp_path, slices=1, transfer_syntax=make.JPEG_2000_LOSSLESS, bits_stored=13, signed=True
    )
    ds = dcmread(path)
    unsigned = (pixels & 0x1FFF).astype(np.uint16)
    stream = imagecodecs.jpeg2k_encode(unsigned, level=0, codecformat="J2K", bitspersample=13)
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), pixels)


def test_one_frame_in_several_fragments(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    ds = dcmread(path)
    stream = make.encode(make.noise(64, 64).astype(np.uint16), make.JPEG_LS)
    ds.PixelData = encapsulate([stream], fragments_per_frame=3)
    ds.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), make.noise(64, 64))


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("bot", [True, False])
def test_frames_are_separated_by_the_offset_table(tmp_path: Path, fragments: int, bot: bool) -> None:
    from pydicom.encaps import encapsulate

    path = make.write_enhanced(tmp_path / "e", frames=3, transfer_syntax=make.JPEG_LS)
    ds = dcmread(path)
    streams = [make.encode(make.noise(32, 32, seed=k).astype(np.uint16), make.JPEG_LS) for k in range(3)]
    ds.PixelData = encapsulate(streams, fragments_per_frame=fragments, has_bot=bot)
    ds.save_as(path)
    series = read_series(tmp_path)
    if fragments == 2 and not bot:
        with pytest.raises(SeriesError, match="it is unknown which"):
            series.stored(0)
        return
    for k in range(3):
        np.testing.assert_array_equal(series.stored(k), make.noise(32, 32, seed=k))


@pytest.mark.parametrize(
    "syntax", [make.EXPLICIT, make.IMPLICIT, make.BIG_ENDIAN, make.DEFLATED, make.RLE, make.JPEG_LS]
)
def test_enhanced_multi_frame(tmp_path: Path, syntax: str) -> None:
    make.write_enhanced(tmp_path / "e", order=[3, 1, 2, 0, 5, 4], transfer_syntax=syntax)
    series = read_series(tmp_path)
    np.testing.assert_allclose(series.positions_mm, [0, 2, 4, 6, 8, 10])
    assert series.spacing_mm == pytest.approx((2.0, 0.8, 0.8))
    for k in range(6):
        expected = make.noise(32, 32, seed=k)
        np.testing.assert_array_equal(series.stored(k), expected)
        np.testing.assert_array_equal(series.hu(k), expected * 2.0 - 1000)
    by_instance = [image.instance_number for image in series.by_instance().slices]
    assert by_instance == [1, 2, 3, 4, 5, 6]


def test_one_frame_enhanced(tmp_path: Path) -> None:
    make.write_enhanced(tmp_path / "e", frames=1, transfer_syntax=make.IMPLICIT)
    series = read_series(tmp_path)
    assert series.positions_mm.tolist() == [0.0]
    assert series.slices[0].slope == 2


def test_frames_without_functional_groups_are_ordered_as_in_the_file(tmp_path: Path) -> None:
    path = make.write_enhanced(tmp_path / "e", frames=3)
    ds = dcmread(path)
    del ds.SharedFunctionalGroupsSequence
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(path)
    series = read_series(tmp_path)
    assert [image.instance_number for image in series.slices] == [1, 2, 3]
    np.testing.assert_array_equal(series.stored(2), make.noise(32, 32, seed=2))


@pytest.mark.parametrize("syntax", sorted(CODECS))
def test_a_damaged_codestream_is_a_series_error(tmp_path: Path, syntax: str) -> None:
    source = make.JPEG_LS if CODECS[syntax] == "jpegls" else make.RLE
    files = make.write_series(tmp_path, slices=1, transfer_syntax=source)
    data = files[0].read_bytes()
    start = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00"))
    ruined = bytearray(data)
    ruined[start + 24 : start + 60] = bytes(36)
    ruined = ruined.replace(source.encode() + b"\0" * (len(source) % 2), _padded(syntax, source))
    files[0].write_bytes(bytes(ruined))
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path).stored(0)
    assert caught.value.code == "undecodable"


def _padded(syntax: str, source: str) -> bytes:
    """Return a UID padded to the length of another, which it replaces, or the other if that is longer."""
    width = len(source) + len(source) % 2
    return syntax.encode().ljust(width, b"\0") if len(syntax) <= width else source.encode().ljust(width, b"\0")


def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    for syntax in (make.JPEG_LOSSLESS_SV1, make.JPEG_LS, make.JPEG_2000_LOSSLESS, make.RLE):
        (path,) = make.write_series(tmp_path / syntax, slices=1, transfer_syntax=syntax)
        ds = dcmread(path)
        larger = make.noise(128, 128).astype(np.uint16)
        ds.PixelData = encapsulate([make.encode(larger, syntax)])
        ds.save_as(path)
        with pytest.raises(SeriesError) as caught:
            read_series(tmp_path / syntax).stored(0)
        assert caught.value.code == "undecodable"


def test_an_unknown_transfer_syntax_is_a_series_error(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    path.write_bytes(path.read_bytes().replace(b"1.2.4.80", b"1.2.4.99"))
    with pytest.raises(SeriesError, match="not supported") as caught:
        read_series(tmp_path).stored(0)
    assert caught.value.code == "undecodable"


def test_each_syntax_has_one_fixed_decoder(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    read_series(tmp_path).stored(0)
    decoder: Any = get_decoder(UID(make.JPEG_LS))
    assert "lungct" in decoder.available_plugins


def test_every_decoder_passes_its_self_check() -> None:
    assert broken_decoders() == {}
