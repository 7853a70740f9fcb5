"""`Scan`: what is known of a patient's scan besides its pixels, in one record.

Reading makes it (`Series.scan`), the preset adds what it found, the sandbox sends it, and the feature table writes it:
a field here is a column there (``lungct.features.rows``), but for `Scan.identified`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What is known of a patient's scan; None where nothing is.

    Attributes
    ----------
    slices
        Slices of the chosen series.
    spacing_mm
        Between slices (median of the distances), between rows, between columns; NaN unknown.
    thickness_mm
        SliceThickness (median).
    manufacturer, model, kernel
        Manufacturer, ManufacturerModelName and ConvolutionKernel as in the files.
    series_reason
        Why this series of those found, without a UID.
    lung_litres
        Air-filled lung that was found, in litres (preset ``lung``).
    notes
        What a careful reader should know about this scan, a code each (``docs/intake.md``).
    pixel_hash
        SHA-256 of the triplets' bytes, 64 hex digits, or HMAC-SHA-256 under a key.
    identified
        Whether the patient's directory is named after the person whom the files name, and they do not say that they
        were de-identified.

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
    identified: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scan:
        """Read what `as_dict` returned, also after a way through JSON."""
        known = {field.name: values[field.name] for field in fields(cls)}
        for name in ("spacing_mm", "notes"):
            known[name] = None if known[name] is None else tuple(known[name])
        return cls(**known)


NOTHING_KNOWN = Scan()
"""The record of a scan that was not read."""
