"""What every row of a table was made with: ``settings.json``, and the metadata of each shard."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from lungct._version import __version__
from lungct.errors import StorageError, UsageError
from lungct.storage import ObjectPath, locate

SCHEMA = 2
# Raised whenever pixels, the choice of series or arithmetic change: rows of two revisions do not mix.
REVISION = 1
# Said, and not compared: other versions, and the same weights in other files, may go on with a table.
INFORMATION = ("lungct", "weights")


@dataclass(frozen=True)
class Settings:
    """What every row of a table was made with (``settings.json``).

    Attributes
    ----------
    preset, backbone, weights, precision, device, batch_size
        As `lungct.extract` takes them, settled: no "auto".
    weights_sha256
        What the weights are, whatever file they came in.
    depth
        Directory levels down to a patient, or "patient-id".
    pseudonym_key
        A fingerprint of the key that ids are hashed with, or None.
    dim
        D, numbers in a feature.

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
    schema: int = SCHEMA
    revision: int = REVISION
    lungct: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Give the settings in the order of the documentation."""
        first = ("schema", "revision", "lungct")
        values = asdict(self)
        return {name: values[name] for name in first} | {
            name: value for name, value in values.items() if name not in first
        }

    def comparable(self) -> dict[str, Any]:
        """Give what must be equal for two runs to make one table."""
        return {k: v for k, v in self.as_dict().items() if k not in INFORMATION}

    def to_json(self) -> str:
        """Give the text of ``settings.json`` and of the shards' metadata."""
        return json.dumps(self.as_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> Settings:
        """Read settings back; UsageError where they are none of ours."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise TypeError("not an object")
            if values.get("schema") != SCHEMA:
                raise UsageError(
                    f"{where} has schema {values.get('schema')!r} and this lungct reads {SCHEMA}: "
                    "use the version that wrote it, or another --out"
                )
            names = {field.name for field in fields(cls)}
            return cls(**{name: values[name] for name in names})
        except KeyError as error:
            raise UsageError(f"{where} is not a feature table's settings.json (it has no {error})") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where} is not a feature table's settings.json ({error})") from error

    def differences(self, other: Settings) -> list[str]:
        """Say each comparable difference with both values."""
        mine, theirs = self.comparable(), other.comparable()
        return [f"{k}: {mine[k]!r} against {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]


def read_settings(directory: str | os.PathLike[str] | ObjectPath) -> Settings:
    """Read a table's settings.

    Raises
    ------
    UsageError
        If the directory is no feature table.

    """
    path = locate(directory, argument="DIR") / "settings.json"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{directory} is not a feature table (it has no settings.json): give the --out of an extract"
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    return Settings.from_json(text, where=str(path))
