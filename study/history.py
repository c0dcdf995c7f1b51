"""What a study has recorded, as far as going on with it needs: its comparisons, and the order of their reports."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.database import TableError, reading
from study.recorder import FILENAME, RecordError
from trainables import old_keys
from trainables.records import FORMAT, STATUSES

UNFINISHED = ("running", "interrupted")
_SECONDS = """SELECT trial_id, sum(coalesce(seconds, 0) + coalesce(evaluate_seconds, 0)) FROM epochs
    JOIN (SELECT trial_id, max(epoch) AS last FROM epochs GROUP BY 1) USING (trial_id) WHERE epoch < last GROUP BY 1"""


@dataclass(frozen=True)
class Report:
    """What search and scheduler heard of a comparison after an epoch; NaN where there was no finite number."""

    trial_id: str
    epoch: int
    objectives: tuple[float, ...]
    scheduled: float


@dataclass(frozen=True)
class Past:
    """A comparison that was recorded under the configuration with these dotted keys.

    ``epoch`` is the last of which, and of all before it, every arm has a row; -1 if there is none. ``seconds`` is what
    the epochs before the last took; 0 where checkpoints are not to be expected, for it had ended or lacks rows.
    """

    trial_id: str
    number: int
    status: str
    config: Mapping[str, Any]
    started: float
    ended: float | None
    epoch: int
    seconds: float = 0

    @property
    def unfinished(self) -> bool:
        """Whether it is to be continued."""
        return self.status in UNFINISHED


@dataclass(frozen=True)
class History:
    """The comparisons of a study by number, its reports in the order in which they came, and what was damaged."""

    comparisons: tuple[Past, ...] = ()
    reports: tuple[Report, ...] = ()
    damage: tuple[str, ...] = ()


def retrying(history: History) -> History:
    """The same with failed comparisons to be continued."""
    again = [replace(p, status="interrupted") if p.status == "failed" else p for p in history.comparisons]
    return replace(history, comparisons=tuple(again))


def read(folder: Path) -> History:
    """The history of the study in ``folder``. A comparison that has holes is to be continued before the first.

    Raises:
        RecordError: there is no record, it cannot be read, or a newer version of the program has made it.
    """
    path = folder / FILENAME
    if not path.is_file():
        raise RecordError(f"{folder} holds no study: there is no {FILENAME} in it")
    try:
        with reading(path) as (connection, lost):
            connection.row_factory = sqlite3.Row
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version < FORMAT:
                raise RecordError(
                    f"{folder} was made by an older filter-study (format {version}, this one continues {FORMAT}): it "
                    "can be reported and exported, not continued"
                )
            history = _history(connection)
    except TableError as error:
        raise RecordError(str(error)) from error
    except sqlite3.Error as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    return replace(history, damage=(*lost, *history.damage))


def _history(connection: sqlite3.Connection) -> History:
    counts = {
        row["trial_id"]: (row["rows"], row["last"])
        for row in connection.execute("SELECT trial_id, count(*) AS rows, max(epoch) AS last FROM epochs GROUP BY 1")
    }
    taken = dict(connection.execute(_SECONDS).fetchall())
    comparisons, damage = [], []
    for row in connection.execute("SELECT * FROM trials ORDER BY number"):
        try:
            config = old_keys.dotted(json.loads(row["config"]))
            number = int(row["number"])
            config["seed"]  # every configuration has one
        except (TypeError, ValueError, KeyError):
            damage.append(f"trial {row['trial_id']}: its configuration or number cannot be read; it is run anew")
            continue
        rows, last = counts.get(row["trial_id"], (0, -1))
        arms = len({key.split(".")[1] for key in config if key.startswith("arms.")})
        seconds = taken.get(row["trial_id"]) or 0
        past = Past(row["trial_id"], number, row["status"], config, row["started"], row["ended"], last, seconds)
        if past.status not in STATUSES:
            damage.append(f"trial {past.trial_id}: its status {past.status!r} is none; it goes on")
            past = replace(past, status="interrupted")
        if rows != (last + 1) * arms or (row["status"] == "finished" and last != config.get("epochs")):
            past = _before_the_hole(connection, past, arms)
            if row["status"] != "failed":
                damage.append(
                    f"trial {past.trial_id}: rows are missing after epoch {past.epoch}; it goes on from there"
                )
                past = replace(past, status="interrupted")
        comparisons.append(past)
    reports = []
    for row in connection.execute("SELECT * FROM reports ORDER BY sequence"):
        try:
            numbers = _numbers(row["objectives"])
            reports.append(Report(row["trial_id"], row["epoch"], numbers, _number(row["scheduled"])))
        except (TypeError, ValueError):
            damage.append(f"trial {row['trial_id']}: what it reported after epoch {row['epoch']} cannot be read")
    return History(tuple(comparisons), tuple(reports), tuple(damage))


def _before_the_hole(connection: sqlite3.Connection, past: Past, arms: int) -> Past:
    query = "SELECT epoch FROM epochs WHERE trial_id = ? GROUP BY epoch HAVING count(*) = ? ORDER BY epoch"
    whole = [epoch for (epoch,) in connection.execute(query, (past.trial_id, arms))]
    unbroken = [epoch for place, epoch in enumerate(whole) if place == epoch]
    return replace(past, epoch=unbroken[-1] if unbroken else -1, seconds=0)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(value) for value in json.loads(text))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
