"""The ids that a user wants predicted, in their order, and what those without features get."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Literal, get_args

from lungct.arguments import counted, listed_texts, spelled
from lungct.csvfile import cannot_be_used, id_problems, read_csv
from lungct.errors import LungCTWarning, UsageError
from lungct.ids import canonical, find_hints, nearest, refuse_clashing
from lungct.pseudonyms import is_pseudonym

Missing = Literal["refuse", "blank", "prevalence"]
"""What ids without features get: nothing, an empty field, or the run's share of positives."""
MISSING: tuple[Missing, ...] = get_args(Missing)


class WantedIds:
    """The ids in a CSV.

    Parameters
    ----------
    path
        The CSV.
    id_column
        Its column of ids.
    hide_ids
        Name lines instead of ids in errors and warnings, except for ids that are pseudonyms: ids may be names.

    Attributes
    ----------
    ids
        As the file has them, in its order.

    Raises
    ------
    UsageError
        If the file cannot be read or lacks the column; or, all in one message, if rows have no id or ids are there more
        than once.

    """

    def __init__(self, path: str | os.PathLike[str], id_column: str, *, hide_ids: bool) -> None:
        file = read_csv(path, {id_column: None}, argument="ids")
        self._where, self._hidden = file.where, hide_ids
        self.ids = file.column(id_column)
        self._lines = [line for line, _ in file.rows]
        if problems := [*file.problems, *id_problems(self._lines, self.ids, self._shown)]:
            raise cannot_be_used(file.where, problems)

    def _shown(self, line: int, patient_id: str) -> str:
        return f"line {line}" if self._hidden and not is_pseudonym(patient_id) else repr(patient_id)

    def places(
        self, with_features: Sequence[str], everyone: Sequence[str], table: str, missing: Missing, share: float
    ) -> list[int | None]:
        """Return where each id's features are; None for ids without features, if these are not refused.

        Parameters
        ----------
        with_features
            The patients with features.
        everyone
            The patients in the table, those with error rows too.
        table
            How errors name the table.
        missing
            What ids without features get.
        share
            The run's share of positives.

        Raises
        ------
        UsageError
            If ``missing`` is "refuse" and ids have no features: how many, the first, and why they may not match; or if
            two patients of the table have one id in its canonical form.

        Warns
        -----
        LungCTWarning
            If it is not, of the same.

        """
        refuse_clashing(everyone, table)
        rows = {canonical(patient_id): i for i, patient_id in enumerate(with_features)}
        places = [rows.get(canonical(patient_id)) for patient_id in self.ids]
        lost = [i for i, place in enumerate(places) if place is None]
        if not lost:
            return places
        known = frozenset(map(canonical, everyone))
        failed = sum(canonical(self.ids[i]) in known for i in lost)
        text = (
            f"{self._where} has {len(lost)} of {counted(len(self.ids), 'id', 'ids')} without features in {table}, "
            f"{listed_texts(self._shown(self._lines[i], self.ids[i]) for i in lost)}"
        )
        if failed:
            text += f"; {counted(failed, 'has an error row', 'have error rows')}"
        text += "".join(f"; {hint}" for hint in self._hints(lost, known))
        if missing == "refuse":
            raise UsageError(
                text,
                fix=f"leave them out, extract them first, or say with {spelled('missing')} what they get "
                "(blank or prevalence)",
            )
        what = "an empty field" if missing == "blank" else f"the run's share of positives, {share:.4g}"
        warnings.warn(f"{text}; they get {what}", LungCTWarning, stacklevel=4)
        return places

    def _hints(self, lost: Sequence[int], known: frozenset[str]) -> list[str]:
        """Return why ids that the table lacks may not match, and the nearest of the first."""
        mine = frozenset(map(canonical, self.ids))
        absent = [form for i in lost if (form := canonical(self.ids[i])) not in known]
        others = [form for form in known if form not in mine]
        if self._hidden or not absent or not others:
            return []
        if hints := find_hints(absent, sorted(others)):
            return [hint.text(second="the table") for hint in hints]
        likely = nearest(absent[0], sorted(others))
        return [] if likely is None else [f"nearest to {absent[0]!r} is {likely!r}"]
