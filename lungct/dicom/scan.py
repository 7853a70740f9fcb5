"""`Scan`: what is known of a patient's scan besides its pixels, in one record.

Reading fills it in (`Series.scan`), the preset adds to it, the sandbox sends it to the worker, and the feature table
stores it: each field is a column there (``lungct.features.rows``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What is known of a patient's scan; None for unknown facts.

    Attributes
    ----------
    slices
        Slices of the chosen series.
    spacing_mm
        Between slices (median of the distances), between rows, between columns; NaN where unknown.
    thickness_mm
        SliceThickness (median).
    manufacturer, model, kernel
        Manufacturer, ManufacturerModelName and ConvolutionKernel as in the files.
    series_reason
        Why this series was chosen from those found, without a UID.
    lung_litres
        Volume of air-filled lung in litres (preset ``lung``).
    notes
        What a careful reader should know about this scan, a code each (``docs/intake.md``).
    pixel_hash
        SHA-256 of the triplets' bytes, 64 hex digits, or HMAC-SHA-256 under a key.

    """

    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    thickness_mm: float | None = None
    manufacturer: str | None = None
    model: str | None = None
    kernel: str | None = None
    series_reason: str | None = None
    lung_litres: float | None = None
    notes: tuple[str, ...] = ()
    pixel_hash: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary that can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scan:
        """Return the record that `as_dict` turned into a dictionary, even after a round trip through JSON."""
        known: dict[str, Any] = {  # JSON has no tuples
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**known)


NOTHING_KNOWN = Scan()
"""The record of a scan that was not read."""
