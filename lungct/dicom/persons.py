"""Who is the same person: the rule that distinguishes the persons in a set of files.

A person is named by PatientID and, because two institutions may assign the same PatientID, by IssuerOfPatientID.
"""

from __future__ import annotations

from collections.abc import Iterable

Identity = tuple[str, str]
"""PatientID and IssuerOfPatientID, each empty if a file lacks it."""


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
