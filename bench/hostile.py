"""Measure what hostile files cost the process that decodes them: the outcome, seconds, and peak memory.

usage: python bench/hostile.py

Each case is a separate patient, prepared by `lungct.sandbox` as in an extraction; a new child process decodes each, and
its peak memory is what the kernel counted (VmHWM). The first case is an ordinary patient.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from support import ct_files as make

from lungct.errors import SeriesError
from lungct.sandbox import Sandbox


def ordinary(place: Path) -> None:
    make.write_series(place, slices=300, rows=512, columns=512)


def claims(place: Path) -> None:
    tags = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 1_000_000}
    make.write_series(place, slices=1, tags=tags)


def largest_slices(place: Path) -> None:
    make.write_series(place, slices=8, rows=4096, columns=4096)


def deflated(place: Path) -> None:
    (path,) = make.write_series(place, slices=1, transfer_syntax=make.DEFLATED)
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    squeeze = zlib.compressobj(wbits=-15)
    bomb = squeeze.compress(zlib.decompress(data[start:], wbits=-15))
    for _ in range(1024):
        bomb += squeeze.compress(bytes(1 << 20))
    path.write_bytes(data[:start] + bomb + squeeze.flush())


def endless_sequence(place: Path) -> None:
    (path,) = make.write_series(place, slices=1)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00")
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = struct.pack("<HH", 0x0008, 0x1140) + b"SQ\0\0\xff\xff\xff\xff" + item
    path.write_bytes(data[:at] + nested * 5_000_000)


def millions_of_elements(place: Path) -> None:
    (path,) = make.write_series(place, slices=1)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00")
    element = struct.pack("<HH", 0x0029, 0x1000) + b"LO\x02\0ab"
    path.write_bytes(data[:at] + element * 20_000_000)


def many_items(place: Path) -> None:
    path = make.write_enhanced(place, frames=2)
    data = path.read_bytes()
    at = data.index(b"\x00\x52\x30\x92")
    empty = b"\xfe\xff\x00\xe0\0\0\0\0"
    path.write_bytes(data[:at] + b"\x00\x52\x30\x92SQ\0\0\xff\xff\xff\xff" + empty * 40_000_000)


def large_codestreams(place: Path) -> None:
    image = make.noise(2048, 2048).astype(np.uint16)
    stream = make.encode(image, make.JPEG_2000_LOSSLESS)
    (path,) = make.write_series(place, slices=1, rows=2048, columns=2048, transfer_syntax=make.JPEG_2000_LOSSLESS)
    assert len(path.read_bytes()) > len(stream)
    data = path.read_bytes()
    for i in range(1, 12):
        (place / f"copy{i}").write_bytes(data)


def runs(place: Path) -> None:
    (path,) = make.write_series(place, slices=1, transfer_syntax=make.RLE)
    data = path.read_bytes()
    long = b"\x81\x07" * 100_000_000
    header = struct.pack("<16I", 2, 64, 64 + len(long), *[0] * 13)
    fragment = header + long + long
    at = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00") + 12)
    path.write_bytes(data[:at] + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(fragment)) + fragment)


def many_files(place: Path) -> None:
    place.mkdir()
    for i in range(100_001):
        (place / f"{i}").write_bytes(b"")


CASES: tuple[Callable[[Path], None], ...] = (
    *(ordinary, claims, largest_slices, deflated, endless_sequence, millions_of_elements),
    *(many_items, large_codestreams, runs, many_files),
)

# The pixels of a single image are read by the preset lung only.
PIXELS = (deflated, large_codestreams, runs)


def main() -> None:
    print(f"{'case':<22} {'outcome':<14} {'seconds':>8} {'peak MiB':>9}")
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory, Sandbox() as sandbox:
            case(Path(directory) / "patient")
            begun = time.perf_counter()
            try:
                preset = "lung" if case in PIXELS else "dsb2017"
                prepared = sandbox.prepare(str(Path(directory) / "patient"), preset)
                outcome = f"{len(prepared.pixels)} triplets"
            except SeriesError as error:
                outcome = error.code
            seconds = time.perf_counter() - begun
            print(f"{case.__name__:<22} {outcome:<14} {seconds:8.1f} {peak_mib(sandbox):9.0f}")


def peak_mib(sandbox: Sandbox) -> float:
    if sandbox.pid is None:
        return float("nan")
    for line in Path(f"/proc/{sandbox.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
