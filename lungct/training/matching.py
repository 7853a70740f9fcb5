"""How well labels and a feature table match: whose label belongs to whose features, what to say, and what to refuse."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lungct.arguments import counted, spelled
from lungct.errors import LungCTWarning, UsageError
from lungct.ids import canonical, find_hints, nearest, refuse_clashing
from lungct.progress import print_message
from lungct.pseudonyms import is_pseudonym
from lungct.training.labels import Labels

NEAREST_SHOWN = 3
"""Ids that do not match and are shown, each with the nearest."""
NO_ERROR_CODE = "unknown"


@dataclass(frozen=True)
class TableIds:
    """Who is in a feature table.

    Attributes
    ----------
    name
        How errors name the table: its directory.
    errors
        Each patient's error, or None, by the id as the table has it.
    error_codes
        Each patient's error_code.
    with_features
        The patients who have features, ordered by id.
    pseudonymised
        Whether ids are pseudonyms.

    """

    name: str
    errors: Mapping[str, str | None]
    error_codes: Mapping[str, str | None]
    with_features: Sequence[str]
    pseudonymised: bool


@dataclass(frozen=True)
class Match:
    """Labels and a table, compared by id.

    Attributes
    ----------
    labels, table
        The two.
    own
        The id that the table has for each canonical form.

    """

    labels: Labels
    table: TableIds
    own: Mapping[str, str]

    @cached_property
    def both(self) -> list[str]:
        """The ids, as the table has them, with features and a label."""
        known = self.labels.known
        return [name for name in self.table.with_features if canonical(name) in known]

    @cached_property
    def absent(self) -> list[str]:
        """The labelled ids that the table lacks, in their canonical form."""
        return [form for form in self.labels.known if form not in self.own]

    @cached_property
    def failed(self) -> list[str]:
        """The labelled patients with an error row."""
        with_features = frozenset(self.table.with_features)
        labelled = [self.own[form] for form in self.labels.known if form in self.own]
        return [name for name in labelled if name not in with_features]

    @cached_property
    def unlisted(self) -> list[str]:
        """The patients with features who are not in the labels at all, not even with a blank."""
        return [name for name in self.table.with_features if canonical(name) not in self.labels.entries]

    @property
    def counts(self) -> dict[str, int]:
        """Labelled ids, patients with features, and those who are both: ``matched`` of metrics.json."""
        return {
            "labels": len(self.labels.known),
            "table": len(self.table.with_features),
            "both": len(self.both),
        }

    @property
    def flow(self) -> dict[str, Any]:
        """How many patients of the table and the labels there are, and why some are not used (see docs/formats.md)."""
        errors: dict[str, int] = {}
        with_features = frozenset(self.table.with_features)
        codes = [code or NO_ERROR_CODE for name, code in self.table.error_codes.items() if name not in with_features]
        for code in sorted(codes):
            errors[code] = errors.get(code, 0) + 1
        rows, labelled = len(self.labels.entries), len(self.labels.known)
        return {
            "table": {"patients": len(self.own), "errors": errors, "features": len(with_features)},
            "labels": {"rows": rows, "blank": rows - labelled, "labelled": labelled},
            "labelled_not_in_table": len(self.absent),
            "labelled_without_features": len(self.failed),
            "unlabelled": len(with_features) - len(self.both),
            "used": len(self.both),
        }

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """``(patient_id, why)`` of everyone who is labelled or in the table and not used, ordered by id.

        In a table of pseudonyms a labelled id that is none may be a name; its line stands in its place.
        """
        with_features = frozenset(self.table.with_features)
        left_out = [(self._shown(form), "labelled, but not in the feature table") for form in self.absent]
        left_out += [
            (name, error or "no features") for name, error in self.table.errors.items() if name not in with_features
        ]
        used = frozenset(self.both)
        left_out += [(name, "features, but no label") for name in self.table.with_features if name not in used]
        return sorted(left_out)

    def _shown(self, form: str) -> str:
        """Return a labelled id as it may be shown."""
        entry = self.labels.entries[form]
        if self.table.pseudonymised and not is_pseudonym(form):
            return f"line {entry.line} of the labels"
        return entry.patient_id

    def sentence(self) -> str:
        """Return how many ids match, the first of each side that does not, and what would make them match."""
        counts = self.counts
        parts = [
            f"matched {counts['both']} of {counted(counts['labels'], 'labelled id', 'labelled ids')} and of "
            f"{counted(counts['table'], 'patient', 'patients')} with features"
        ]
        if self.absent:
            missing = counted(len(self.absent), "labelled id is not in the table", "labelled ids are not in the table")
            parts.append(f"{missing}, first {self._first_absent()}")
        if self.failed:
            failed = counted(len(self.failed), "labelled id has an error row", "labelled ids have an error row")
            parts.append(f"{failed}, first {self.failed[0]!r}")
        if self.unlisted:
            without = counted(len(self.unlisted), "patient with features has", "patients with features have")
            parts.append(f"{without} no label, first {self.unlisted[0]!r}")
        if blank := len(self.labels.entries) - len(self.labels.known):
            parts.append(counted(blank, "label is blank", "labels are blank"))
        return "; ".join([*parts, *self.hints])

    def _first_absent(self) -> str:
        """Return the first labelled ids that the table lacks, each with the nearest in the table."""
        if self.table.pseudonymised:
            return self._shown(self.absent[0])
        shown = []
        for form in self.absent[:NEAREST_SHOWN]:
            likely = nearest(form, self._unmatched_in_table)
            shown.append(repr(self._shown(form)) + (f" (nearest: {likely!r})" if likely else ""))
        return ", ".join(shown)

    @cached_property
    def _unmatched_in_table(self) -> list[str]:
        return [form for form in self.own if form not in self.labels.entries]

    @cached_property
    def hints(self) -> list[str]:
        """What would make more ids match."""
        if not self.absent or not self._unmatched_in_table:
            return []
        if self.table.pseudonymised:
            if all(map(is_pseudonym, self.absent)):
                return ["the labels' pseudonyms are of another key or of other ids than the table's"]
            return ["the table's ids are pseudonyms, and `lungct pseudonyms` writes those of the labels"]
        if all(map(is_pseudonym, self.absent)):
            return ["the labels' ids are pseudonyms, and the table's are not"]
        hints = [hint.text(second="the table") for hint in find_hints(self.absent, self._unmatched_in_table)]
        return hints + self._column_hint()

    def _column_hint(self) -> list[str]:
        """Return which other column of the labels has more of the table's ids, if one has."""
        file, most = self.labels.file, len(self.own) - len(self._unmatched_in_table)
        best = None
        for place, name in enumerate(file.header):
            found = len({canonical(values[place]) for _, values in file.rows} & self.own.keys())
            if found > most:
                best, most = name, found
        return (
            []
            if best is None
            else [f"the column {best!r} has {most} of the table's ids ({spelled('id_column', best)})"]
        )


def match(labels: Labels, table: TableIds) -> Match:
    """Compare labels and a table by id, each in its canonical form.

    Raises
    ------
    UsageError
        If two patients of the table have one id in that form.

    """
    refuse_clashing(table.errors, table.name)
    return Match(labels, table, {canonical(name): name for name in table.errors})


def check(match: Match, *, allow_unmatched: bool) -> None:
    """Refuse labels that do not belong to a table.

    Raises
    ------
    UsageError
        If no id matches; or if fewer than half of the labelled ids, or of the patients with features where those are
        fewer, do, unless ``allow_unmatched``.

    """
    counts = match.counts
    if not counts["both"]:
        raise _no_overlap(match)
    if 2 * counts["both"] < min(counts["labels"], counts["table"]) and not allow_unmatched:
        fewer = "labelled ids" if counts["labels"] <= counts["table"] else "patients with features"
        raise UsageError(
            f"{match.labels.where} and {match.table.name} have fewer than half of the {fewer} in common "
            f"({match.sentence()})",
            fix=f"correct the ids, or give {spelled('allow_unmatched', True)} to train on those that match",
        )


def say(match: Match, *, quiet: bool) -> None:
    """Say in one line how many ids match: a warning if ids may be mistyped, else a message unless ``quiet``.

    They may be if there are labels without a patient and patients without a label. One of the two alone is ordinary:
    the table is a part of a registry, or has the patients to predict, too.
    """
    if match.absent and match.unlisted:
        warnings.warn(match.sentence(), LungCTWarning, stacklevel=3)
    else:
        print_message(match.sentence(), quiet=quiet)


def _no_overlap(match: Match) -> UsageError:
    """Return the error that explains why no patient has both features and a label."""
    table, labels = match.table, match.labels
    if not table.with_features:
        return UsageError(
            f"no patient in {table.name} has features "
            f"({counted(len(table.errors), 'has an error row', 'have error rows')}), so there is nothing to train on",
            fix="read the column error of the table",
        )
    if not labels.known:
        return UsageError(f"{labels.where}: every label is blank", fix="fill in the labels that are known")
    if match.failed:
        return UsageError(
            f"every labelled patient in {table.name} has an error row, so there is nothing to train on "
            f"({match.sentence()})",
            fix="read the column error of the table",
        )
    if any(form in match.own for form in labels.entries):
        return UsageError(
            f"{labels.where}: every patient who is in {table.name} has a blank label ({match.sentence()})",
            fix="fill in the labels that are known",
        )
    return UsageError(
        f"no labelled id of {labels.where} is in {table.name} ({match.sentence()}; the table begins with "
        f"{table.with_features[0]!r})",
        fix=f"correct the ids, or give the column that holds the table's ids as {spelled('id_column')}",
    )
