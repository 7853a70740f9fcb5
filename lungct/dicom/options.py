"""`SeriesOptions`: what the user says about which of a patient's series is the scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lungct.arguments import spelled
from lungct.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """What the user says about which series is the scan; None leaves it to the files.

    Attributes
    ----------
    series_include, series_exclude
        Only series whose SeriesDescription contains this text, or does not contain it, in upper or lower case.
    body_part
        Only series whose BodyPartExamined contains this text, in upper or lower case.
    volume
        A pattern (``*`` and ``?``) that the path of a volume file below the patient's directory must match.

    """

    series_include: str | None = None
    series_exclude: str | None = None
    body_part: str | None = None
    volume: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Return the options that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self) -> None:
        """Raise UsageError if an option was given without a text: it would fit everything, or nothing."""
        for name, value in self.as_dict().items():
            if not value.strip():
                raise UsageError(f"{spelled(name)} is empty", fix="give a text, or leave the option out")


NO_OPTIONS = SeriesOptions()
"""Everything is left to the files."""
