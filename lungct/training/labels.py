"""A CSV of labels -> the label of each patient: 0 or 1, or none where the field is blank."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lungct.arguments import counted, listed, listed_texts, spelled
from lungct.csvfile import CsvFile, Problem, cannot_be_used, id_problems, read_csv
from lungct.errors import UsageError
from lungct.ids import canonical
from lungct.pseudonyms import is_pseudonym

_LABEL = re.compile(r"([01])(?:[.,]0+)?", re.ASCII)
"""0, 1, 0.0 and 1.0, also with the decimal comma of many spreadsheets."""
_NOTHING = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", ".", "?", "unknown", "missing"})
"""What people write where nothing is known, in lower case."""


@dataclass(frozen=True)
class Entry:
    """A row of labels.

    Attributes
    ----------
    patient_id
        As the file has it.
    line
        The row's line.
    label
        0 or 1; None if the field is blank.
    group
        The text in the group column; "" if it is blank, or there is no such column.

    """

    patient_id: str
    line: int
    label: int | None
    group: str = ""


@dataclass(frozen=True)
class Labels:
    """The labels in a CSV.

    Attributes
    ----------
    where
        How errors name the file: "--labels labels.csv".
    entries
        Each patient's row, by the id in its canonical form (`lungct.ids.canonical`), in the order of the file.
    grouped
        Whether there is a group column.
    file
        The whole file.

    """

    where: str
    entries: dict[str, Entry]
    grouped: bool
    file: CsvFile = field(repr=False)

    @cached_property
    def known(self) -> dict[str, int]:
        """The label, 0 or 1, of each labelled patient, by the id in its canonical form."""
        return {form: entry.label for form, entry in self.entries.items() if entry.label is not None}


def read_labels(
    path: str | os.PathLike[str],
    *,
    id_column: str = "id",
    label_column: str = "cancer",
    group_column: str | None = None,
    positive: str | None = None,
    hide_ids: bool = False,
) -> Labels:
    """Read a CSV of labels.

    Parameters
    ----------
    path
        The file: columns separated by commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252.
    id_column, label_column, group_column
        The names of its columns.
    positive
        Which of the column's two texts counts as 1; None: labels are 0 and 1 (0.0 and 1.0, too).
    hide_ids
        Name lines instead of ids in errors, except for ids that are pseudonyms: ids may be names.

    Raises
    ------
    UsageError
        If the file cannot be read or lacks a column; or, all in one message that names the first few, if rows have no
        id, ids are there more than once, or labels are neither 0 nor 1 nor blank.

    Warns
    -----
    LungCTWarning
        If the file had to be read as Windows-1252.

    """
    columns: dict[str, str | None] = {}
    for argument, column in (("id_column", id_column), ("label_column", label_column), ("group_column", group_column)):
        if column is None:
            continue
        if column in columns:
            raise UsageError(
                f"{spelled(str(columns[column]))} and {spelled(argument)} are both {column!r}", fix="give two columns"
            )
        columns[column] = argument
    if positive is not None and not positive.strip():
        raise UsageError(f"{spelled('positive')} is empty", fix=f"give the text in {label_column!r} that means 1")
    file = read_csv(path, columns, argument="labels")
    ids, texts = file.column(id_column), file.column(label_column)
    groups = file.column(group_column) if group_column else [""] * len(ids)
    lines = [line for line, _ in file.rows]

    def shown(line: int, patient_id: str) -> str:
        return f"line {line}" if hide_ids and not is_pseudonym(patient_id) else repr(patient_id)

    parse, problem = _parser(texts, label_column, positive)
    problems = [*file.problems, *id_problems(lines, ids, shown), *([problem] if problem else [])]
    entries, wrong = {}, []
    for line, patient_id, text, group in zip(lines, ids, texts, groups, strict=True):
        label = parse(text)
        if text and label is None:
            wrong.append((f"{shown(line, patient_id)} ({text!r})", text))
        entries[canonical(patient_id)] = Entry(patient_id, line, label, canonical(group))
    if wrong:
        problems.append(_wrong_labels(wrong, {canonical(text) for text in texts if text}, label_column))
    if problems:
        raise cannot_be_used(file.where, problems)
    return Labels(file.where, entries, group_column is not None, file)


def _parser(
    texts: Sequence[str], column: str, positive: str | None
) -> tuple[Callable[[str], int | None], Problem | None]:
    """Return what turns a text into its label (None if it is blank, or no label), and what is wrong with all texts."""
    if positive is None:
        return _zero_or_one, None
    one = canonical(positive.strip())
    found = Counter(canonical(text) for text in texts if text)
    problem = None
    if len(found) != 2:
        fix = f"correct the others, or leave {spelled('positive')} out where labels are 0 and 1"
        if len(found) > 2 and (nothing := [text for text in found if text.casefold() in _NOTHING]):
            fix = f"leave the field empty where nothing is known ({listed(nothing)})"
        problem = Problem(f"{spelled('positive')} needs two texts in {column!r}, and {_there_are(found)}", fix)
    elif one not in found:
        problem = Problem(
            f"no label in {column!r} is {one!r}; {_there_are(found)}", f"give one of them as {spelled('positive')}"
        )
    return lambda text: int(canonical(text) == one) if text else None, problem


def _there_are(texts: Counter[str]) -> str:
    """Return how many texts there are, and how often each: "there are 2: 'no' (30), 'yes' (12)"."""
    if not texts:
        return "all are blank"
    each = [f"{text!r} ({count})" for text, count in sorted(texts.items(), key=lambda item: (-item[1], item[0]))]
    return f"there {'is' if len(each) == 1 else 'are'} {len(each)}: {listed_texts(each)}"


def _zero_or_one(text: str) -> int | None:
    found = _LABEL.fullmatch(text)
    return int(found[1]) if found else None


def _wrong_labels(wrong: Sequence[tuple[str, str]], texts: Collection[str], column: str) -> Problem:
    """Return the problem of labels that are neither 0 nor 1, with the way out that fits them."""
    labels = counted(len(wrong), "label is", "labels are")
    text = f"{labels} neither 0 nor 1 in {column!r}: {listed_texts(each for each, _ in wrong)}"
    nothing = [label for _, label in wrong if label.casefold() in _NOTHING]
    fix = "correct them, or leave the field of a patient without a label empty"
    if len(nothing) == len(wrong):
        fix = f"leave the field empty where nothing is known, instead of {listed(dict.fromkeys(nothing))}"
    else:
        two = sorted(label for label in texts if label.casefold() not in _NOTHING)
        if len(two) == 2:
            fix = f"say which of {two[0]!r} and {two[1]!r} counts as 1 with {spelled('positive')}"
            if nothing:
                fix += f", and leave the field empty instead of {listed(dict.fromkeys(nothing))}"
    return Problem(text, fix)
