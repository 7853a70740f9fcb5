"""Notes: what a careful reader should know about a scan that could be used, a code each, perhaps with a number.

``docs/intake.md`` explains each code and what to do about it. A code keeps its meaning from version to version.
"""

from __future__ import annotations

from collections.abc import Iterable

UNREADABLE_FILES = "unreadable_files"
DAMAGED_SLICES = "damaged_slices"
GAP_MM = "gap_mm"
UNEVEN_SPACING = "uneven_spacing"
PASSES = "passes"
JOINED_PASSES = "joined_passes"
JOINED_SERIES = "joined_series"
NO_POSITION = "no_position"
OTHER_SIZE = "other_size"
SERIES_UIDS = "series_uids"
STUDIES = "studies"
JUMP_MM = "jump_mm"
NUMBER_ORDER = "number_order"
LOSSY = "lossy"
NO_RESCALE = "no_rescale"
DERIVED = "derived"
VIRTUAL = "virtual"
SHEARED = "sheared"
LUNG_AT_EDGE = "lung_at_edge"
LUNG_AT_END = "lung_at_end"
VIEW_GROWN_MM = "view_grown_mm"

IN_WORDS: dict[str, str] = {
    UNREADABLE_FILES: "unreadable files named like the images (empty, compressed, dead links): {}",
    DAMAGED_SLICES: "images left out because they are damaged or their copies differ: {}",
    GAP_MM: "a gap of {} mm between neighbouring slices",
    UNEVEN_SPACING: "the slices are unevenly spaced",
    PASSES: "one of {} overlapping passes",
    JOINED_PASSES: "{} incomplete passes joined into one scan",
    JOINED_SERIES: "{} series joined into one scan",
    NO_POSITION: "images without a position left out: {}",
    OTHER_SIZE: "images of another size left out: {}",
    SERIES_UIDS: "{} series of one to three images each, read as one",
    STUDIES: "one of {} studies",
    JUMP_MM: "a sideways jump of {} mm between neighbouring slices",
    NUMBER_ORDER: "the slices are in order of InstanceNumber, which does not run along the body",
    LOSSY: "lossy compression",
    NO_RESCALE: "no RescaleSlope or RescaleIntercept; the signed stored values are taken for HU",
    DERIVED: "derived images, not an original reconstruction",
    VIRTUAL: "a virtual image, computed from several energies",
    SHEARED: "the volume's axes are not quite at right angles",
    LUNG_AT_EDGE: "lung reaches the edge of the image",
    LUNG_AT_END: "lung reaches the first or the last slice",
    VIEW_GROWN_MM: "the view grew to {} mm to hold the lungs",
}
"""What each code says; ``{}`` stands for its number. Their order is that of a row's notes."""

_ORDER = {code: number for number, code in enumerate(IN_WORDS)}


def note(code: str, number: float | None = None) -> str:
    """Return a note: a code, with ``=`` and its number if it has one.

    >>> note("gap_mm", 12.5), note("lossy")
    ('gap_mm=12.5', 'lossy')
    """
    return code if number is None else f"{code}={number:.10g}"


def code_of(text: str) -> str:
    """Return a note's code.

    >>> code_of("gap_mm=12.5")
    'gap_mm'
    """
    return text.partition("=")[0]


def in_words(text: str) -> str:
    """Return a note as a phrase for people.

    >>> in_words("gap_mm=12.5")
    'a gap of 12.5 mm between neighbouring slices'
    """
    code, _, number = text.partition("=")
    return IN_WORDS.get(code, text).format(number)


def in_order(notes: Iterable[str]) -> tuple[str, ...]:
    """Return each note once, in the order of `IN_WORDS`."""
    return tuple(sorted(set(notes), key=lambda text: (_ORDER.get(code_of(text), len(_ORDER)), text)))
