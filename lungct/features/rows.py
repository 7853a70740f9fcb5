"""A patient's row, and the Arrow schema that rows have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.dicom.scan import NOTHING_KNOWN, Scan
from lungct.errors import LungCTError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def schema(dim: int) -> pa.Schema:
    """Return the Arrow schema of a table whose features have ``dim`` numbers."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("patient_id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("error_code", pa.string()),
            pa.field("person", pa.string()),
            pa.field("days", pa.int32()),
            pa.field("slices", pa.int32()),
            pa.field("spacing_mm", pa.list_(pa.float64(), 3)),
            pa.field("thickness_mm", pa.float64()),
            pa.field("manufacturer", pa.string()),
            pa.field("model", pa.string()),
            pa.field("kernel", pa.string()),
            pa.field("series_reason", pa.string()),
            pa.field("lung_litres", pa.float64()),
            pa.field("notes", pa.list_(pa.string()), nullable=False),
            pa.field("pixel_hash", pa.string()),
            pa.field("positions_mm", pa.list_(pa.float64())),
            pa.field("features", pa.list_(pa.list_(pa.float32(), dim))),
        ]
    )


@dataclass(frozen=True)
class Row:
    """One patient's row: features, or an error and its code.

    Attributes
    ----------
    error, error_code
        Why there are no features: one sentence, and a code that stays the same from version to version. None if there
        are.
    person
        Whose scan it is; None if the id is the person.
    days
        Days since the person's first study; None if that is not known.
    scan
        What is known of the scan.
    features
        float32 (T, D), or None with ``error``.
    positions_mm
        float64 (T,), or None with ``error``.

    """

    patient_id: str
    error: str | None = None
    error_code: str | None = None
    person: str | None = None
    days: int | None = None
    scan: Scan = NOTHING_KNOWN
    positions_mm: NDArray[np.float64] | None = None
    features: NDArray[np.float32] | None = None


_SCAN_COLUMNS = frozenset(field.name for field in fields(Scan))


def rows_to_table(rows: Iterable[Row], dim: int) -> pa.Table:
    """Return rows as an Arrow table with the columns of `schema`, ordered by patient_id; an empty text is null.

    Raises
    ------
    LungCTError
        If features are not finite.

    """
    import pyarrow as pa

    ordered = sorted(rows, key=lambda row: row.patient_id)
    for row in ordered:
        check_finite(row.features, row.patient_id)
    target = schema(dim)

    def column(name: str) -> pa.Array:
        kind = target.field(name).type
        if name == "features":
            return _features_array([row.features for row in ordered], dim)
        values = [getattr(row.scan if name in _SCAN_COLUMNS else row, name) for row in ordered]
        if pa.types.is_string(kind):
            values = [value if value else None for value in values]
        return pa.array(values, type=kind)

    return pa.Table.from_arrays([column(name) for name in target.names], schema=target)


def check_finite(features: NDArray[Any] | None, patient_id: str) -> None:
    """Raise LungCTError if a patient's features hold NaN or infinity."""
    if features is not None and not np.isfinite(features).all():
        raise LungCTError(
            f"the features of {patient_id} are not finite (they hold NaN or infinity)",
            fix="check the weights, and the GPU that computed them",
        )


def _features_array(features: Sequence[NDArray[np.float32] | None], dim: int) -> pa.Array:
    """Build a list<fixed_size_list<float>[dim]> array without a Python object for each number."""
    import pyarrow as pa

    lengths = [0 if block is None else len(block) for block in features]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    blocks = [block for block in features if block is not None]
    flat = np.concatenate(blocks).astype(np.float32, copy=False).ravel() if blocks else np.empty(0)
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat, type=pa.float32()), dim)
    mask = pa.array([block is None for block in features], type=pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)
