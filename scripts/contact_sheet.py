"""A picture of a whole archive: each patient's middle slice as the network sees it, under the preset lung.

usage: python scripts/contact_sheet.py SRC --out PNG [--limit N]

SRC is a directory of patients, as for `lungct extract`. Under each slice stand the patient's number in the order of
ids, the litres of lung and the notes; of a patient that cannot be used, the error's code and sentence. Ids are printed
to stdout, one a line after its number, and are not in the picture: it can be shown around where they cannot.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import lungct
from lungct.preprocess import TRIPLET_SIZE, Triplets

COLUMNS = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", metavar="SRC", type=Path)
    parser.add_argument("--out", metavar="PNG", type=Path, required=True)
    parser.add_argument("--limit", metavar="N", type=int, help="the first N patients in order of id")
    arguments = parser.parse_args()
    patients = sorted(entry.name for entry in os.scandir(arguments.src) if not entry.name.startswith("."))
    tiles = []
    for number, patient in enumerate(patients[: arguments.limit], 1):
        print(number, patient, flush=True)
        tiles.append(tile(number, arguments.src / patient))
    if not tiles:
        print(f"{arguments.src} holds no patients", file=sys.stderr)
        return 1
    arguments.out.write_bytes(sheet(tiles))
    return 0


def tile(number: int, patient: Path) -> tuple[NDArray[np.uint8], str]:
    """Return a patient's picture, (224, 224, 3), and what stands under it."""
    try:
        triplets = lungct.triplets(patient, "lung")
    except lungct.LungCTError as error:
        code = getattr(error, "code", type(error).__name__)
        return np.full((TRIPLET_SIZE, TRIPLET_SIZE, 3), 40, np.uint8), f"{number}: {code}\n{error}"
    return middle_slice(triplets), caption(number, triplets)


def middle_slice(triplets: Triplets) -> NDArray[np.uint8]:
    """Return the middle slice of the middle triplet, grey, (224, 224, 3)."""
    image = triplets.pixels[len(triplets) // 2, 1]
    return np.repeat(image[:, :, None], 3, axis=2)


def caption(number: int, triplets: Triplets) -> str:
    """Return the litres of lung, the number of triplets and the notes."""
    notes = ", ".join(triplets.notes) or "no notes"
    return f"{number}: {triplets.scan.lung_litres:.2f} litres, {len(triplets)} triplets\n{notes}"


def sheet(tiles: list[tuple[NDArray[np.uint8], str]]) -> bytes:
    """Draw the tiles in rows and return the bytes of a PNG."""
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.4 * rows), facecolor="white")
    # Below each image there is room for the lines of its caption.
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.02 / rows, bottom=0.24 / rows, wspace=0.03, hspace=0.35)
    axes: Any = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (pixels, text) in zip(axes, tiles, strict=False):
        axis.imshow(pixels)
        lines = [line for part in text.splitlines() for line in textwrap.wrap(part, 40)]
        below = {"ha": "center", "va": "top", "transform": axis.transAxes}
        axis.text(0.5, -0.03, "\n".join(lines[:6]), fontsize=7, **below)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=110, metadata={"Software": None})
    return sink.getvalue()


if __name__ == "__main__":
    sys.exit(main())
