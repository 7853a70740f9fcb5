"""Who is the same person: the rules that distinguish the persons in a set of files, and that recognise their names.

A person is named by PatientID and, because two institutions may assign the same PatientID, by IssuerOfPatientID.
PatientName says who that is in life, unless it holds a code: archives for research put their codes there.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING

from lungct.errors import SeriesError

if TYPE_CHECKING:
    from lungct.dicom.slices import Person

Identity = tuple[str, str]
"""PatientID and IssuerOfPatientID, each empty if a file lacks it."""

_LONGEST_NAME = 3 * 65  # three groups of 64 characters, each with its separator (PS3.5 6.2)
_WORD = re.compile(r"[^\W\d_]+")
_FAMILY_AND_GIVEN = re.compile(r"([^\W\d_]{2,})\^+([^\W\d_]+)")  # how PatientName separates them (PS3.5 6.2.1)
_APOSTROPHES = str.maketrans("", "", "'`\u2019")
# What stands in the place of a name, or in the names of directories and protocols ("Thorax^Routine"), and is none.
_NO_NAMES = frozenset(
    {
        *("anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "identified", "removed"),
        *("unknown", "none", "null", "noname", "nobody", "name", "patient", "subject", "person", "case", "control"),
        *("test", "phantom", "study", "series", "scan", "image", "ct", "pet", "mr", "mri", "dicom"),
        *("head", "neck", "brain", "shoulder", "chest", "thorax", "thoracic", "lung", "lungs", "breast", "heart"),
        *("cardiac", "vascular", "spine", "abdomen", "pelvis", "body", "extremities", "specials"),
    }
)


def persons_by_identity(identities: Iterable[Identity]) -> dict[Identity, Identity]:
    """Return, for each identity found in files, the person whom it names.

    A PatientID without issuer belongs to the only issuer that the other files name for it; if they name none, or
    several, it is a separate person. An identity without PatientID names nobody and is left out.

    >>> persons_by_identity([("7", ""), ("7", "clinic")])
    {('7', ''): ('7', 'clinic'), ('7', 'clinic'): ('7', 'clinic')}
    """
    found = sorted({identity for identity in identities if identity[0]})
    issuers: dict[str, list[str]] = {}
    for patient_id, issuer in found:
        if issuer:
            issuers.setdefault(patient_id, []).append(issuer)
    persons: dict[Identity, Identity] = {}
    for patient_id, issuer in found:
        known = issuers.get(patient_id, [])
        persons[patient_id, issuer] = (patient_id, known[0]) if not issuer and len(known) == 1 else (patient_id, issuer)
    return persons


def separated_by_directories(identities: Mapping[str, Identity]) -> bool:
    """Return whether the directories of some level have one person each, and no file lies above that level.

    Parameters
    ----------
    identities
        The identity in each DICOM file, by the file's path.

    """
    persons = persons_by_identity(identities.values())
    directories = {path: os.path.dirname(path).split(os.sep) for path in identities}
    for level in range(1, min(map(len, directories.values()), default=0) + 1):
        found: dict[tuple[str, ...], set[Identity]] = {}
        for path, identity in identities.items():
            named = {persons[identity]} if identity in persons else set()
            found.setdefault(tuple(directories[path][:level]), set()).update(named)
        if all(len(named) <= 1 for named in found.values()):
            return True
    return False


def several_persons(count: int, *, apart: bool) -> SeriesError:
    """Return the error of a patient whose files name several persons.

    Parameters
    ----------
    count
        How many.
    apart
        Whether directories below the patient's have one person each.

    """
    fix = "move each person's files into a separate directory"
    if apart:
        fix = "give a greater --depth, since directories below this one have one person each"
    return SeriesError(
        f"the files name {count} persons",
        code="several_persons",
        fix=f"{fix}, or group the files by PatientID (--by-patient-id)",
    )


def names_person(text: str, person: Person) -> bool:
    """Return whether a text, such as a patient's id, reveals whom a file is about.

    It does if it is the PatientID, or has the PatientID as a component of its path, or if it has words of PatientName:
    one of at least three letters, or two. False if the file declares that it was de-identified.

    >>> from lungct.dicom.slices import Person
    >>> names_person("doe_ct1", Person("17", "", "DOE^JOHN")), names_person("acrin013", Person("17", "", "ACRIN^013"))
    (True, False)
    """
    if person.removed:
        return False
    if person.patient_id and person.patient_id in (text, *text.split("/")):
        return True
    name = _name_words(person)
    words = set(_words(text))
    found = {word for word in name if word in words}
    together = {one + other for one, other in product(name, repeat=2)}
    # In UTF-8, so that a Chinese family name of one character counts as three letters.
    longest = max((len(word.encode()) for word in found), default=0)
    return longest >= 3 or len(found) >= 2 or bool(together & words)


def looks_like_name(text: str) -> bool:
    """Return whether a text is written as PatientName is, FAMILY^GIVEN, so that it names a person whatever files say.

    >>> looks_like_name("DOE^JOHN 19300101"), looks_like_name("Thorax^Routine"), looks_like_name("ACRIN^013")
    (True, False, False)
    """
    return any(not _NO_NAMES.intersection(_words(found.group())) for found in _FAMILY_AND_GIVEN.finditer(text))


def _name_words(person: Person) -> set[str]:
    """Return the words of PatientName that may be a person's; none if it is a code: the PatientID, or with digits."""
    name = person.name[:_LONGEST_NAME]
    if name == person.patient_id or any(character.isdigit() for character in name):
        return set()
    return {word for word in _words(name) if len(word.encode()) > 1 and not _is_filler(word)} - _NO_NAMES


def _is_filler(word: str) -> bool:
    """Return whether a word is one letter of the alphabet over and over, as in XXXX^XXXX."""
    return word.isascii() and len(set(word)) == 1


def _words(text: str) -> list[str]:
    """Return the words of a text: letters only, in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_APOSTROPHES))
    return _WORD.findall("".join(character for character in plain if not unicodedata.combining(character)))
