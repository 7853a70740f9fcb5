"""Pixels of every transfer syntax are read as they were written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate
from support import ROOT
from support import ct_files as make

from lungct.dicom import codecs, read_series
from lungct.dicom.codecs import CODECS, broken_decoders
from lungct.errors import LungCTError, SeriesError
from lungct.sandbox import Sandbox

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


LOSSLESS_CODESTREAM = {make.JPEG_2000: make.JPEG_2000_LOSSLESS, make.JPEG_LS_NEAR: make.JPEG_LS}
"""Transfer syntaxes that allow a loss and do not require it, and those whose codestreams they may have as well."""
UNCOMPRESSED = (make.IMPLICIT, make.EXPLICIT, make.DEFLATED, make.BIG_ENDIAN)


@st.composite
def words(draw: st.DrawFn) -> dict[str, Any]:
    """Draw stored values, and samples that hold them between other bits."""
    syntax = draw(st.sampled_from((*make.LOSSLESS, *LOSSLESS_CODESTREAM)))
    allocated = draw(st.sampled_from((8, 16, 32) if syntax in UNCOMPRESSED else (8, 16)))
    stored = draw(st.integers(max(2, allocated - 8), allocated))
    high = draw(st.sampled_from((stored - 1, allocated - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    values = rng.integers(0, 1 << stored, (5, 7))
    others = rng.integers(0, 1 << allocated, (5, 7)) & ~(((1 << stored) - 1) << (high + 1 - stored))
    if not draw(st.booleans()):
        others[...] = 0
    # One sample has all its bits, so that the codestream is seen to have them.
    values[0, 0], others[0, 0] = (1 << stored) - 1, others[0, 0] | (1 << allocated) - (1 << high + 1)
    signed = draw(st.booleans())
    return {
        "syntax": syntax,
        "allocated": allocated,
        "stored": stored,
        "high": high,
        "signed": signed,
        "stream_signed": draw(st.booleans()),
        "samples": values << (high + 1 - stored) | others,
        "values": np.where(values >> (stored - 1) & 1, values - (1 << stored), values) if signed else values,
    }


@given(words())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_bits_beyond_bits_stored_mean_nothing_in_any_transfer_syntax(drawn: dict[str, Any]) -> None:
    """PS3.5 8.1.1: overlays in the other bits, zeros where a negative value has ones, HighBit at the top."""
    with tempfile.TemporaryDirectory() as name:
        (path,) = make.write_series(
            Path(name), slices=1, pixels=lambda i: drawn["samples"], signed=drawn["stream_signed"],
            bits_allocated=drawn["allocated"], bits_stored=drawn["stored"],
            transfer_syntax=LOSSLESS_CODESTREAM.get(drawn["syntax"], drawn["syntax"]),
            tags={"HighBit": drawn["high"], "PixelRepresentation": int(drawn["signed"])},
        )  # fmt: skip
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = drawn["syntax"]
        ds.save_as(path)
        pixels = read_series(name).stored(0)
    assert pixels.dtype == make.pixel_type(drawn["allocated"], drawn["signed"])
    np.testing.assert_array_equal(pixels, drawn["values"])


@pytest.mark.parametrize("syntax", [*UNCOMPRESSED, make.RLE])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_bits_stored_are_ignored_as_pydicom_does(tmp_path: Path, syntax: str, signed: bool) -> None:
    pixels = make.noise(64, 64, bits_stored=12, signed=signed)
    overlaid = (pixels & 0x0FFF) | 0x3000
    make.write_series(tmp_path, slices=1, pixels=lambda i: overlaid, signed=signed, transfer_syntax=syntax)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.stored(0), pixels)
    np.testing.assert_array_equal(series.stored(0), dcmread(series.slices[0].path).pixel_array)


def with_stream(directory: Path, syntax: str, stream: bytes | bytearray, shape: tuple[int, int], **tags: Any) -> Path:
    """Write an image whose pixels are a codestream that the test made."""
    (path,) = make.write_series(
        directory, slices=1, rows=shape[0], columns=shape[1], transfer_syntax=syntax,
        pixels=lambda i: np.zeros(shape, np.int64),
    )  # fmt: skip
    ds = dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(path)
    return directory


@pytest.mark.parametrize("signed", [False, True])
def test_a_codestream_may_have_fewer_bits_than_bits_stored(tmp_path: Path, signed: bool) -> None:
    pixels = make.noise(16, 16, bits_stored=10).astype(np.uint16)
    for syntax, stream in {
        make.JPEG_LOSSLESS_SV1: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=10),
        make.JPEG_2000_LOSSLESS: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K", bitspersample=10),
    }.items():
        for bits in (10, 12, 16):
            where = tmp_path / f"{syntax}-{bits}"
            with_stream(where, syntax, stream, (16, 16), BitsStored=bits, HighBit=15, PixelRepresentation=int(signed))
            negative = signed and bits == 10
            expected = np.where(pixels >= 512, pixels.astype(int) - 1024, pixels) if negative else pixels
            stored = read_series(where).stored(0)
            assert stored.dtype == make.pixel_type(16, signed)
            np.testing.assert_array_equal(stored, expected)


def test_a_codestream_with_more_bits_than_bits_allocated_is_refused(tmp_path: Path) -> None:
    pixels = make.noise(16, 16).astype(np.uint16)
    for syntax in (make.JPEG_LS, make.JPEG_LOSSLESS_SV1, make.JPEG_2000_LOSSLESS):
        where = with_stream(
            tmp_path / syntax, syntax, make.encode(pixels, syntax), (16, 16), BitsAllocated=8, BitsStored=8, HighBit=7
        )
        with pytest.raises(SeriesError) as caught:
            read_series(where).stored(0)
        assert caught.value.code == "undecodable"


@pytest.mark.parametrize("signed", [False, True])
def test_what_a_lossy_codestream_overshoots_is_clipped_and_never_turns_black_to_white(
    tmp_path: Path, signed: bool
) -> None:
    lowest, highest = (-2048, 2047) if signed else (0, 4095)
    pixels = np.where(np.indices((64, 64)).sum(0) // 16 % 2, highest, lowest).astype(make.pixel_type(16, signed))
    stream = imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="J2K")
    assert int(imagecodecs.jpeg2k_decode(stream).max()) > highest
    stored = read_series(
        with_stream(tmp_path, make.JPEG_2000, stream, (64, 64), PixelRepresentation=int(signed))
    ).stored(0)
    assert (int(stored.min()), int(stored.max())) == (lowest, highest)
    assert np.abs(stored.astype(int) - pixels).max() < 400


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("side", [31, 32])
def test_big_endian_bytes_are_swapped_only_if_written_in_words(tmp_path: Path, vr: str, side: int) -> None:
    pixels = make.noise(side, side, bits_stored=8)
    (path,) = make.write_series(
        tmp_path, slices=1, pixels=lambda i: pixels, transfer_syntax=make.BIG_ENDIAN, bits_allocated=8, bits_stored=8
    )
    if vr == "OB":
        ds = dcmread(path)
        ds.PixelData = pixels.astype(np.uint8).tobytes() + b"\0" * (side % 2)
        ds["PixelData"].VR = "OB"
        ds.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), pixels)


def test_jpeg_2000_that_contradicts_pixel_representation(tmp_path: Path) -> None:
    """The codestream has 13 bits unsigned, the header 13 bits signed: the header is right (pydicom's rule)."""
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
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    ds = dcmread(path)
    stream = make.encode(make.noise(64, 64).astype(np.uint16), make.JPEG_LS)
    ds.PixelData = encapsulate([stream], fragments_per_frame=3)
    ds.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), make.noise(64, 64))


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("bot", [True, False])
def test_frames_are_separated_by_the_offset_table(tmp_path: Path, fragments: int, bot: bool) -> None:
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
    np.testing.assert_allclose(series.by_instance().positions_mm, series.positions_mm)  # whatever the frames' numbers


@pytest.mark.parametrize("where", ["own groups", "shared groups", "top level", "nowhere"])
@pytest.mark.parametrize("signed", [False, True])
def test_frames_have_a_rescale_somewhere_or_signed_values(tmp_path: Path, where: str, signed: bool) -> None:
    path = make.write_enhanced(tmp_path / "e", frames=3)
    ds = dcmread(path)
    ds.PixelRepresentation = int(signed)
    shared = ds.SharedFunctionalGroupsSequence[0]
    rescale = shared.PixelValueTransformationSequence
    if where != "shared groups":
        del shared.PixelValueTransformationSequence
    if where == "own groups":
        for groups in ds.PerFrameFunctionalGroupsSequence:
            groups.PixelValueTransformationSequence = rescale
    if where == "top level":
        ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
    ds.save_as(path)
    if where == "nowhere" and not signed:
        with pytest.raises(SeriesError, match="its values are unsigned") as caught:
            read_series(tmp_path)
        assert caught.value.code == "undecodable"
        return
    series = read_series(tmp_path)
    assert {image.rescaled for image in series.slices} == {where != "nowhere"}
    slope, intercept = (1, 0) if where == "nowhere" else (2, -1000)
    np.testing.assert_array_equal(series.hu(0), series.stored(0) * np.float32(slope) + np.float32(intercept))


@pytest.mark.parametrize("said", ["00", "01", None])
@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.JPEG_LS, make.JPEG_LS_NEAR, make.JPEG_2000])
@pytest.mark.parametrize("enhanced", [False, True])
def test_loss_is_known_from_the_header_or_else_the_transfer_syntax(
    tmp_path: Path, said: str | None, syntax: str, enhanced: bool
) -> None:
    if enhanced:
        path = make.write_enhanced(tmp_path / "e", frames=2, transfer_syntax=syntax)
    else:
        (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=syntax)
    if said is not None:
        ds = dcmread(path)
        ds.LossyImageCompression = said
        ds.save_as(path)
    may_be_lossy = syntax in (make.JPEG_LS_NEAR, make.JPEG_2000)
    assert {image.lossy for image in read_series(tmp_path).slices} == {said == "01" or (said is None and may_be_lossy)}


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
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
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


def test_pixels_depend_on_no_decoder_of_pydicoms(tmp_path: Path) -> None:
    for syntax in make.LOSSLESS:
        make.write_series(tmp_path / syntax, slices=1, transfer_syntax=syntax)
    program = (
        "import pathlib, sys; from lungct.dicom import read_series\n"
        "for one in pathlib.Path(sys.argv[1]).iterdir(): read_series(one).stored(0)\n"
        "sys.exit('pydicom' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT).returncode == 0


def test_every_decoder_passes_its_self_check() -> None:
    assert broken_decoders() == {}


def _delayed(*_: object, **__: object) -> None:
    raise imagecodecs.DelayedImportError("jpegls_decode")


@pytest.mark.parametrize("fault", ["not installed", "lacks the function", "cannot load the codec"])
def test_a_broken_installation_is_never_a_patients_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    if fault == "cannot load the codec":
        monkeypatch.setattr(imagecodecs, "jpegls_decode", _delayed)
    else:
        stub = types.ModuleType("imagecodecs") if fault == "lacks the function" else None
        monkeypatch.setitem(sys.modules, "imagecodecs", stub)
    with pytest.raises(LungCTError, match="lacks a decoder") as caught:
        read_series(tmp_path).stored(0)
    assert type(caught.value) is LungCTError
    assert "lungct doctor" in str(caught.value)
    assert make.JPEG_LS in broken_decoders()


@pytest.mark.parametrize("library", ["imagecodecs", "cv2"])
def test_a_broken_installation_in_the_child_process_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    make.write_series(tmp_path / "patient", slices=4, transfer_syntax=make.JPEG_LS)
    (tmp_path / "broken" / library).mkdir(parents=True)  # a package without a function, as a failed upgrade leaves it
    (tmp_path / "broken" / library / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), str(ROOT)]))
    with Sandbox() as sandbox, pytest.raises(LungCTError) as caught:
        sandbox.prepare(str(tmp_path / "patient"), "dsb2017")
    assert type(caught.value) is LungCTError


@pytest.mark.parametrize("syntax", [make.JPEG_LOSSLESS_SV1, make.JPEG_EXTENDED, make.JPEG_LS, make.JPEG_2000_LOSSLESS])
@given(share=st.floats(0.1, 0.97), zeros=st.integers(0, 2000))
@settings(max_examples=15, deadline=None)
def test_a_codestream_that_was_cut_short_is_damaged(syntax: str, share: float, zeros: int) -> None:
    """libjpeg fills in what is missing; a file that was half downloaded has zeros there."""
    stream = make.encode(make.noise(64, 64).astype(np.uint16), syntax)
    cut = stream[: int(len(stream) * share)] + bytes(zeros)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - codecs raise anything
        codecs.decode(cut, syntax, rows=64, columns=64, bits_allocated=16)
    assert not isinstance(caught.value, ImportError | AttributeError | NameError | MemoryError)


@pytest.mark.parametrize("padding", [b"", b"\0", b"\x42", b"\0" * 500])
def test_a_whole_codestream_is_decoded_once(monkeypatch: pytest.MonkeyPatch, padding: bytes) -> None:
    """Writers pad with any byte."""
    stream = make.encode(make.noise(32, 32).astype(np.uint16), make.JPEG_LOSSLESS_SV1).rstrip(b"\0")
    decoded: list[bytes] = []
    decode = imagecodecs.jpeg8_decode
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda data: decoded.append(data) or decode(data))  # type: ignore[func-returns-value]
    codecs.decode(stream + padding, make.JPEG_LOSSLESS_SV1, rows=32, columns=32, bits_allocated=16)
    assert decoded == [stream + padding]


@pytest.mark.parametrize("syntax", [make.JPEG_LOSSLESS_SV1, make.JPEG_EXTENDED])
@pytest.mark.parametrize("padding", [b"", b"\0"])
@given(seed=st.integers(0, 1000), bits=st.integers(2, 12))
@settings(max_examples=15, deadline=None)
def test_a_codestream_that_lacks_only_its_end_marker_is_whole(
    syntax: str, padding: bytes, seed: int, bits: int
) -> None:
    image = make.noise(32, 32, bits_stored=bits, seed=seed).astype(np.uint16)
    stream = make.encode(image, syntax).rstrip(b"\0")
    assert stream.endswith(b"\xff\xd9")
    whole, unended = (
        codecs.decode(one, syntax, rows=32, columns=32, bits_allocated=16).values
        for one in (stream, stream[:-2] + padding)
    )
    np.testing.assert_array_equal(whole, unended)
