"""Noise for a whole cohort, drawn once: every slice takes windows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.phantom.fields import SLICE_SIZE, Field

BANK_SIZE = 1024
"""Rows and columns of a field of noise."""


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Two fields of noise, both (1024, 1024) float32 with standard deviation 1.

    Attributes
    ----------
    quantum
        Noise like that of a CT reconstruction: strongest at middle frequencies, none at the lowest.
    texture
        Blotches of 2 to 5 mm, for tissue.

    """

    quantum: Field
    texture: Field


def random_window(noise: Field, rng: np.random.Generator, size: int = SLICE_SIZE) -> Field:
    """Return a view of a square somewhere in a field of noise, (size, size)."""
    row, column = rng.integers(0, BANK_SIZE - size, 2).tolist()
    return noise[row : row + size, column : column + size]


def noise_bank(seed: int) -> NoiseBank:
    """Draw the noise of a cohort."""
    rng = np.random.default_rng([seed, 1])
    white = np.fft.rfft2(rng.standard_normal((BANK_SIZE, BANK_SIZE)))
    rows, columns = np.fft.fftfreq(BANK_SIZE)[:, None], np.fft.rfftfreq(BANK_SIZE)[None, :]
    frequency = np.hypot(rows, columns)
    quantum = np.fft.irfft2(white * frequency * np.exp(-((frequency / 0.22) ** 2)))
    blotches = np.fft.irfft2(white[::-1] * np.exp(-((frequency / 0.09) ** 2)))
    return NoiseBank(_unit(quantum), _unit(blotches))


def _unit(field: NDArray[np.float64]) -> Field:
    return np.asarray((field - field.mean()) / field.std(), np.float32)
