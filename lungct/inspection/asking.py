"""What `inspect` asks about a patient's files: the sandbox's child opens them and answers, this process never does.

`described`, `decoded` and `drawn` run in the child; `PatientFiles` asks for them. Each reads the files anew, because a
child that crashes takes what it knows with it, and each has the time that one patient may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from lungct.arguments import spelled
from lungct.dicom import Series, SeriesOptions, series_choices
from lungct.dicom.assembling import without_damaged
from lungct.dicom.options import NO_OPTIONS
from lungct.errors import SeriesError
from lungct.inspection.description import Description, describe, with_scan
from lungct.preprocess import Preset
from lungct.sandbox import Answer, Sandbox
from lungct.sandbox.messages import Location


@dataclass(frozen=True)
class PatientFiles:
    """A patient's files, and the sandbox whose child may open them.

    Every method raises what `Sandbox.call` raises; but `describe` returns a SeriesError as a patient who is unusable.

    Attributes
    ----------
    location
        The patient's directory, a single file, or a list of the patient's files, on a disk.
    options
        What the user says about which series is the scan.
    archive
        The directory in which other patients are; None: the one above the patient's.

    """

    sandbox: Sandbox
    location: Location
    options: SeriesOptions = NO_OPTIONS
    archive: str | None = None

    def describe(self, preset: Preset | None) -> Description:
        """Describe the patient, usable or not; with a preset, prepare the patient as an extraction does."""
        found = self._described()
        return found if preset is None else self._prepared(found, preset)

    def decode(self, found: Description) -> tuple[Description, tuple[float, float]]:
        """Decode the scan: return its HU, and the description without slices that cannot be decoded.

        Raises
        ------
        SeriesError
            If the scan would lack more images than it may.

        """
        text, _ = self._call(decoded, choice=found.choice)
        low, high = text["hu_range"]
        return _without_damage(found, Description.from_json(text["whole"])) if text["whole"] else found, (low, high)

    def draw(self, found: Description) -> bytes:
        """Draw the scan of a description that was decoded; return the bytes of a PNG."""
        try:
            _, picture = self._call(drawn, choice=found.choice)
        except SeriesError as error:
            raise SeriesError(
                f"the picture cannot be drawn ({error.message})", code=error.code, fix=f"leave {spelled('png')} out"
            ) from None
        return bytes(picture)

    def _described(self, choice: int = 0) -> Description:
        try:
            text, _ = self._call(described, choice=choice)
        except SeriesError as error:
            return Description(error=str(error), error_code=error.code)
        return Description.from_json(text)

    def _prepared(self, found: Description, preset: Preset) -> Description:
        found = replace(found, preset=preset)
        try:
            prepared = self.sandbox.prepare(self.location, preset, self.options, archive=self.archive)
        except SeriesError as error:
            return replace(found, error=str(error), error_code=error.code)
        if prepared.choice:
            found = replace(self._described(prepared.choice), preset=preset)
        return replace(
            found,
            slices=prepared.scan.slices or 0,
            reason=prepared.scan.series_reason,
            notes=prepared.scan.notes,
            error=None,
            error_code=None,
            triplets=len(prepared.pixels),
            lung_litres=prepared.scan.lung_litres,
        )

    def _call(self, function: Callable[..., Answer], **arguments: Any) -> tuple[dict[str, Any], bytearray]:
        given = {"options": self.options.as_dict(), "archive": self.archive}
        return self.sandbox.call(function, self.location, **given, **arguments)


def _without_damage(found: Description, whole: Description) -> Description:
    """Return a description of the scan without its damaged slices; of these, preparing has taken account already."""
    if found.preset is not None:
        return replace(found, chosen=whole.chosen)
    return replace(
        found,
        chosen=whole.chosen,
        slices=whole.slices,
        reason=whole.reason,
        notes=whole.notes,
        problems=whole.problems,
    )


def described(location: Location, *, options: Mapping[str, str], archive: str | None, choice: int) -> Answer:
    """Describe a patient's files by their headers.

    Parameters
    ----------
    location, options, archive
        As for `lungct.sandbox.preparing.prepare`.
    choice
        Number of series that were tried before the one that is the scan.

    """
    return Answer(asdict(describe(location, SeriesOptions(**options), archive=archive, choice=choice)))


def decoded(location: Location, *, options: Mapping[str, str], archive: str | None, choice: int) -> Answer:
    """Decode the scan: its smallest and largest HU, and what is known of it without slices that are damaged.

    The latter is None if all are whole. Parameters are those of `described`.

    Raises
    ------
    SeriesError
        If the scan would lack more images than it may.

    """
    series = _scan(location, options, archive, choice)
    try:
        return Answer({"hu_range": _hu_range(series), "whole": None})
    except SeriesError as error:
        if error.code != "undecodable":
            raise
    whole = without_damaged(series)
    return Answer({"hu_range": _hu_range(whole), "whole": asdict(with_scan(Description(), whole))})


def drawn(location: Location, *, options: Mapping[str, str], archive: str | None, choice: int) -> Answer:
    """Draw the scan without slices that are damaged: a PNG. Parameters are those of `described`."""
    from lungct.inspection.montage import montage

    series = _scan(location, options, archive, choice)
    try:
        picture = montage(series)
    except SeriesError:
        picture = montage(without_damaged(series))
    return Answer({}, (np.frombuffer(picture, np.uint8),))


def _scan(location: Location, options: Mapping[str, str], archive: str | None, choice: int) -> Series:
    return next(islice(series_choices(location, SeriesOptions(**options), archive=archive), choice, None))


def _hu_range(series: Series) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for i in range(len(series)):
        hu = series.hu(i)
        low, high = min(low, float(hu.min())), max(high, float(hu.max()))
    return low, high
