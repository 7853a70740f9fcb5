"""All CT images of a patient -> candidates.

1. Images are put together by SeriesInstanceUID (or, if it is empty, by StudyInstanceUID and what the files say in
   words), and series of one image each are put together to the series that they were (``joining.py``).
2. A series is split into stacks of one orientation and one size (``stacks.py``), these into passes, and the stations
   of a pass are joined (``acquisitions.py``).
3. Stacks that are one scan, sent as several series, are joined (``joining.py``).

All of it depends on what the files contain, and never on their names or order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

from lungct.dicom.acquisitions import acquisitions
from lungct.dicom.candidates import Candidate, content_order
from lungct.dicom.joining import join_scattered, join_series
from lungct.dicom.notes import in_order, note
from lungct.dicom.slices import Slice
from lungct.dicom.stacks import Stack, stacks_of_series


def candidates(slices: Iterable[Slice]) -> tuple[Candidate, ...]:
    """Group CT images into candidates, each with notes of what was joined or left out to make it."""
    found: list[Stack] = []
    for series in join_scattered(_by_series(slices)):
        stacks = stacks_of_series(series.images)
        found += [one.noted(series.counts) for stack in stacks for one in acquisitions(stack)]
    return tuple(map(_candidate, join_series(found)))


def _by_series(slices: Iterable[Slice]) -> list[Stack]:
    series: dict[tuple[str, ...], list[Slice]] = {}
    for image in slices:
        key = (image.series_uid,) if image.series_uid else ("", image.study_uid, *astuple(image.words))
        series.setdefault(key, []).append(image)
    return [Stack(tuple(sorted(series[key], key=content_order))) for key in sorted(series)]


def _candidate(stack: Stack) -> Candidate:
    images = sorted(stack.images, key=content_order)
    return Candidate(tuple(images), in_order(note(code, count) for code, count in stack.counts.items()))
