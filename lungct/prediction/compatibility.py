"""Whether a feature table's features are those that a run was trained on."""

from __future__ import annotations

import json
import warnings

from lungct.arguments import spelled
from lungct.errors import LungCTWarning, UsageError
from lungct.features import SERIES_OPTIONS, Settings
from lungct.rundir import Run, damaged_error

MUST_BE_EQUAL = ("revision", "preset", "backbone", "weights_sha256", *SERIES_OPTIONS, "dim")
"""Settings that decide what a feature means."""
SHOULD_BE_EQUAL = ("device", "precision", "batch_size")
"""Settings that change a feature in its last digits."""


def settings_of_training(run: Run) -> Settings:
    """Return the settings of the table that a run was trained on.

    Raises
    ------
    UsageError
        If this lungct cannot read them.

    """
    try:
        text = json.dumps(run.settings["table"]["settings"])
        return Settings.from_json(text, where="its table's settings.json")
    except UsageError as error:
        raise UsageError(
            f"{spelled('RUN')} {run.place} was trained on a feature table that this lungct cannot read "
            f"({error.message})",
            fix="extract and train again",
        ) from error
    except (KeyError, TypeError) as error:
        raise damaged_error(run.place, error) from error


def check_features(run: Run, trained_on: Settings, settings: Settings, table: str) -> None:
    """Refuse a table whose features mean something else than those that a run was trained on.

    Ids do not matter here: ``depth`` and ``pseudonym_key`` may differ.

    Raises
    ------
    UsageError
        If a setting of `MUST_BE_EQUAL` differs; the message names both values of each.

    Warns
    -----
    LungCTWarning
        If a setting of `SHOULD_BE_EQUAL` differs.

    """
    if differences := trained_on.differences(settings, MUST_BE_EQUAL):
        raise UsageError(
            f"{spelled('RUN')} {run.place} was trained on features made with other settings than those in {table} (the "
            f"run's against the table's): {'; '.join(differences)}",
            fix="extract with the run's settings, or train on this table",
        )
    if differences := trained_on.differences(settings, SHOULD_BE_EQUAL):
        warnings.warn(
            f"the features in {table} were computed otherwise than those that the run was trained on (the run's "
            f"against the table's: {'; '.join(differences)}), so predictions may differ slightly",
            LungCTWarning,
            stacklevel=4,
        )
