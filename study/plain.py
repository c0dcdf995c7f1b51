"""Comparisons that a program other than this one's engine searched for, as the tables of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.database import TableError
from study.queue import Planned
from trainables.records import BUILT_IN, TRIAL_COLUMNS, Row


@dataclass(frozen=True)
class Trained:
    """A comparison that was trained, or was to be.

    Attributes:
        settings: its dotted keys with every default; where they cannot be, those that were asked for.
        rows: of each epoch and arm.
        status: a word of :data:`trainables.records.STATUSES`.
        error: why it ended before its last epoch.
        started: Unix time; None where it is not known, and so the next.
        ended: Unix time.
        objective: what the search was told.
    """

    settings: Mapping[str, Any]
    rows: Sequence[Row]
    status: str
    error: str | None
    started: float | None
    ended: float | None
    objective: float | None


def tables(trained: Sequence[Trained]) -> dict[str, pd.DataFrame]:
    """The tables ``trials`` and ``epochs`` of a study of these comparisons, numbered in their order."""
    trials, epochs = [], []
    for number, one in enumerate(trained):
        planned = Planned(number, one.settings)
        epochs += [row | {"trial_id": planned.trial_id} for row in one.rows]
        trials.append(
            {
                "trial_id": planned.trial_id,
                "number": number,
                "configuration": planned.configuration,
                "status": one.status,
                "error": one.error,
                "started": one.started,
                "ended": one.ended,
                "objective": one.objective,
                **planned.config,
            }
        )
    names = [column.name for column in TRIAL_COLUMNS]
    found = pd.DataFrame(trials, columns=None if trials else names)
    lacking = [column.name for column in BUILT_IN.all if not any(column.name in row for row in epochs)]
    return {
        "trials": found.reindex(columns=[*names, *(name for name in found if name not in names)]),
        "epochs": pd.DataFrame(epochs).assign(**dict.fromkeys(lacking)),
    }


def write(made: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write tables to Parquet files in ``folder``, which is empty or not there yet.

    Raises:
        TableError: it is not empty, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise TableError(f"{folder} is not empty, and what lies there could be another study's; give a new folder")
        for name, table in made.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)
    except OSError as error:
        raise TableError(f"cannot write to {folder}: {error}; give a folder that can be written to") from error
