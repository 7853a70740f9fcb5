"""What every row of a table was made with: ``settings.json``, and the metadata of each shard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from lungct._version import __version__
from lungct.arguments import is_whole_number, spelled
from lungct.dicom.options import SeriesOptions
from lungct.errors import StorageError, UsageError
from lungct.storage import ObjectPath, locate

SCHEMA = 2
"""The layout of a table: its columns, and the keys of its settings."""
REVISION = 2
"""Raised whenever pixels, the choice of series or arithmetic change: rows of two revisions do not mix."""
# Written, but not compared: another version, and the same weights in another file, may continue a table.
NOT_COMPARED = ("lungct", "weights")
BY_PATIENT_ID = "patient-id"
"""The ``depth`` of a table whose patients are those that headers name: its ids are no paths."""
SERIES_OPTIONS = tuple(field.name for field in fields(SeriesOptions))
"""Settings that are written only where they were given: one that is absent counts as null."""
_MAY_BE_NULL = ("pseudonym_key", *SERIES_OPTIONS)


@dataclass(frozen=True)
class Settings:
    """What every row of a table was made with (``settings.json``).

    Attributes
    ----------
    preset, backbone, weights, precision, device, batch_size
        As `lungct.extract` takes them, but never "auto".
    weights_sha256
        The hash of the weights themselves, independently of their file.
    depth
        Directory levels from SRC down to a patient, or "patient-id".
    pseudonym_key
        The fingerprint of the key that ids are hashed with; None without one.
    dim
        D, the numbers in a feature vector.
    series_include, series_exclude, body_part, volume
        What was said about which series is the scan (`lungct.dicom.SeriesOptions`); not written where it is None.
    schema, revision, lungct
        `SCHEMA`, `REVISION` and the version of lungct that began the table.

    """

    preset: str
    backbone: str
    weights: str
    weights_sha256: str
    precision: str
    device: str
    batch_size: int
    depth: int | str
    pseudonym_key: str | None
    dim: int
    series_include: str | None = None
    series_exclude: str | None = None
    body_part: str | None = None
    volume: str | None = None
    schema: int = SCHEMA
    revision: int = REVISION
    lungct: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Return the settings in the order in which they are written."""
        first = ("schema", "revision", "lungct")
        values = {
            name: value for name, value in asdict(self).items() if value is not None or name not in SERIES_OPTIONS
        }
        return {name: values[name] for name in first} | {
            name: value for name, value in values.items() if name not in first
        }

    def comparable(self) -> dict[str, Any]:
        """Return what must be equal for rows to be in one table."""
        return {k: v for k, v in self.as_dict().items() if k not in NOT_COMPARED}

    def to_json(self) -> str:
        """Return the text of ``settings.json``, which the metadata of each shard repeats."""
        return json.dumps(self.as_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> Settings:
        """Read what `to_json` wrote.

        Raises
        ------
        UsageError
            If the text is something else, or of another schema.

        """
        try:
            values = json.loads(text)
            if not looks_like_settings(values):
                raise ValueError(
                    "it is a run's"
                    if _is_of_a_run(values)
                    else "it does not name a schema, a preset, a backbone and weights"
                )
            _check_schema(values.get("schema"), where)
            return cls(**{field.name: _checked(field.name, values) for field in fields(cls)})
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{where} is not a feature table's settings.json ({error})", fix="give the directory that extract wrote"
            ) from error

    def differences(self, other: Settings, names: Sequence[str] | None = None) -> list[str]:
        """Return a text for each setting that differs, with both values.

        Parameters
        ----------
        other
            What to compare with.
        names
            The settings to compare; None: those that must be equal in one table.

        """
        mine, theirs = self.comparable(), other.comparable()
        names = [*mine, *(name for name in theirs if name not in mine)] if names is None else names
        return [
            f"{name}: {mine.get(name)!r} against {theirs.get(name)!r}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]

    @property
    def series_options(self) -> SeriesOptions:
        """What was said about which series is the scan."""
        return SeriesOptions(**{name: getattr(self, name) for name in SERIES_OPTIONS})


def looks_like_settings(values: object) -> bool:
    """Return whether a JSON value may be the settings of a feature table, of whatever schema."""
    if not isinstance(values, dict) or _is_of_a_run(values):
        return False
    return is_whole_number(values.get("schema")) and {"preset", "backbone", "weights"} <= values.keys()


def _is_of_a_run(values: object) -> bool:
    return isinstance(values, dict) and values.get("kind") == "run"


def _checked(name: str, values: Mapping[str, Any]) -> Any:
    """Return one setting; raise ValueError if it is missing or has a value that none can have."""
    if name not in values and name not in _MAY_BE_NULL:
        raise ValueError(f"it has no {name!r}")
    value: Any = values.get(name)
    fits = isinstance(value, str) or (name in _MAY_BE_NULL and value is None)
    if name in ("schema", "revision", "batch_size", "dim", "depth"):
        is_count = is_whole_number(value) and 1 <= value < 1 << 31
        fits = is_count or (name == "depth" and isinstance(value, str))
    if not fits:
        raise ValueError(f"its {name!r} is {value!r}")
    return value


def _check_schema(found: object, where: str) -> None:
    if found == SCHEMA:
        return
    if isinstance(found, int) and found > SCHEMA:
        raise UsageError(f"{where} has schema {found}, and this lungct reads schema {SCHEMA}", fix="update lungct")
    raise UsageError(
        f"{where} has schema {found}, which an older lungct wrote, and this one reads schema {SCHEMA}",
        fix=f"extract again, with another {spelled('out')} or with {spelled('overwrite', True)}",
    )


def read_settings(directory: str | os.PathLike[str] | ObjectPath) -> Settings:
    """Read a table's settings.

    Raises
    ------
    UsageError
        If the directory is not a feature table, or one of another schema.
    StorageError
        If its settings cannot be read.

    """
    path = locate(directory, argument="DIR") / "settings.json"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{directory} is not a feature table (it has no settings.json)", fix="give the directory that extract wrote"
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror})") from error
    return Settings.from_json(text, where=str(path))
