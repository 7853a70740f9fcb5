"""A series -> a picture: three views in true proportions, a histogram of HU, and what the network sees."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.errors import SeriesError
from lungct.preprocess import PRESETS, Preset, Triplets, prepare

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

    from lungct.dicom import Series

SHOWN = 6
WINDOW_HU = (-1000.0, 400.0)
SHOWN_HU = (-2100.0, 1500.0)
# A view of a few hundred pixels needs no more of an image than every second row and column, and at most this many.
_STEP = 2
_MOST_PIXELS = 256


@dataclass(frozen=True)
class View:
    """One plane through the series: its pixels in HU, and the ratio of a pixel's height to its width."""

    title: str
    pixels: NDArray[np.float32]
    aspect: float


def montage(series: Series) -> bytes:
    """Draw a series and return the picture as the bytes of a PNG.

    Top: the middle slice, the coronal and sagittal planes through the middle (feet below, if positions are known), and
    a histogram of HU. Below: six triplets of each preset, evenly spread, their three slices as red, green and blue; if
    a preset cannot use the series, the reason.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 11.5), facecolor="white", layout="constrained")
    parts: Any = figure.subfigures(1 + len(PRESETS), 1, height_ratios=[4.2, *[3.3] * len(PRESETS)])
    top, *below = parts
    _draw_views(top, series)
    for part, preset in zip(below, PRESETS, strict=True):
        _draw_preset(part, series, preset)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100, metadata={"Software": None})
    return sink.getvalue()


def views(volume: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> list[View]:
    """Return the three planes through the middle of a volume.

    Parameters
    ----------
    volume
        HU (slices, rows, columns), feet first.
    spacing_mm
        Between slices, rows and columns; an unknown one is drawn as if it were equal to a known one.

    """
    known = [value for value in spacing_mm if np.isfinite(value) and value > 0]
    fallback = known[0] if known else 1.0
    z, y, x = (value if np.isfinite(value) and value > 0 else fallback for value in spacing_mm)
    slices, rows, columns = volume.shape
    return [
        View("axial", volume[slices // 2], y / x),
        View("coronal", volume[::-1, rows // 2], z / x),
        View("sagittal", volume[::-1, :, columns // 2], z / y),
    ]


def spread(count: int, shown: int = SHOWN) -> list[int]:
    """Return up to ``shown`` indices of ``count``, evenly spread, both ends included.

    >>> spread(11, 6)
    [0, 2, 4, 6, 8, 10]
    """
    if count <= shown:
        return list(range(count))
    return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]


def _draw_views(part: SubFigure, series: Series) -> None:
    volume, step = sampled(series)
    slice_mm, row_mm, column_mm = series.spacing_mm
    cut = views(volume, (slice_mm, row_mm * step, column_mm * step))
    axes = part.subplots(1, 4)
    for axis, view in zip(axes, cut, strict=False):
        low, high = WINDOW_HU
        axis.imshow(view.pixels, cmap="gray", vmin=low, vmax=high, aspect=view.aspect)
        axis.set_title(view.title, fontsize=11)
        axis.set_axis_off()
    axis = axes[3]
    counts, edges = np.histogram(volume, bins=180)
    axis.hist(edges[:-1], edges, weights=counts, color="#3b6ea5", log=True)
    axis.set_xticks([-2000, -1000, 0, 1000])
    axis.set_title("Hounsfield units (pixels, log scale)", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    part.suptitle(f"{len(series)} slices, HU {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g}", fontsize=13)


def sampled(series: Series) -> tuple[NDArray[np.float32], int]:
    """Return the HU of every n-th row and column, as far as they are shown, and n."""
    step = max(_STEP, math.ceil(max(series.rows, series.columns) / _MOST_PIXELS))
    volume = np.empty((len(series), len(range(0, series.rows, step)), len(range(0, series.columns, step))), np.float32)
    for i in range(len(series)):
        np.clip(series.hu(i)[::step, ::step], *SHOWN_HU, out=volume[i])
    return volume, step


def _draw_preset(part: SubFigure, series: Series, preset: Preset) -> None:
    axes: Any = part.subplots(1, SHOWN)
    for axis in axes:
        axis.set_axis_off()
    try:
        triplets = prepare(series, preset)
    except SeriesError as error:
        part.suptitle(f"{preset}: {error}", fontsize=13)
        return
    part.suptitle(f"{preset}: {len(triplets.pixels)} triplets as the network sees them", fontsize=13)
    for axis, i in zip(axes, spread(len(triplets.pixels)), strict=False):
        axis.imshow(triplets.pixels[i].transpose(1, 2, 0))
        axis.set_title(_place(triplets, i), fontsize=10)


def _place(triplets: Triplets, i: int) -> str:
    position = triplets.positions_mm[i]
    return f"triplet {i + 1}" + (f", {position:.1f} mm" if np.isfinite(position) else "")
