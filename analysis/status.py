"""How a study is getting on, from its record alone, while it runs or after; the driver is not disturbed."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.database import DATABASE, TableError, counted, reading, tables
from trainables.records import STATUSES

DONE = ("finished", "stopped", "diverged", "failed")
"""Statuses of comparisons that will not go on."""

MINUTES = 5
"""Epochs per minute are of so many last minutes."""


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        counts: comparisons by status, those that have any.
        done: comparisons that will not go on.
        total: comparisons that the study will have; None where nobody knows.
        alive: whether a driver is working on it; None where that cannot be told.
        best: the best objective of a finished comparison; None before there is one.
        best_trial: the comparison that has it.
        epochs: epochs trained by the comparisons, each counted once for all its arms.
        epochs_per_minute: over the last five minutes; None where fewer than two were recorded in them.
        comparisons_per_hour: done in the last hour, or since the start if that is shorter or none was; None before.
        seconds_left: until all are done, at that rate; None where it cannot be told.
        epochs_saved: what stopped comparisons would have trained further.
    """

    counts: Mapping[str, int]
    done: int
    total: int | None
    alive: bool | None
    best: float | None
    best_trial: str | None
    epochs: int
    epochs_per_minute: float | None
    comparisons_per_hour: float | None
    seconds_left: float | None
    epochs_saved: int


def status(
    folder: Path, now: float, total: int | None = None, alive: bool | None = False, mode: Literal["max", "min"] = "max"
) -> Status:
    """The status of the study in ``folder`` at the Unix time ``now``.

    Args:
        folder: the study directory.
        now: the present, by the clock that the driver recorded with.
        total: comparisons that its experiment will run.
        alive: whether its driver runs, None where that cannot be told; rates and time left are told only if it does.
        mode: which objective is best, the largest or the smallest.

    Raises:
        TableError: there is no study, or it cannot be read.
    """
    with reading(Path(folder) / DATABASE, check=False) as (connection, _):
        present = tables(connection)
        for table in ("trials", "epochs"):
            if table not in present:
                raise TableError(f"{folder}/{DATABASE} has no table {table!r}; is it the record of a study?")
        found = dict(connection.execute("SELECT status, count(*) FROM trials GROUP BY status"))
        counts = {name: found[name] for name in STATUSES if name in found}
        done = sum(counts.get(name, 0) for name in DONE)
        order = "DESC" if mode == "max" else "ASC"
        best, trial = connection.execute(
            "SELECT objective, trial_id FROM trials WHERE status = 'finished' AND typeof(objective) = 'real' "
            f"ORDER BY objective {order}, number LIMIT 1"
        ).fetchone() or (None, None)
        timed = "reports" in present
        epochs, saved = _epochs(connection, "reports" if timed else "epochs")
        pace = _epochs_per_minute(connection, now) if timed and alive else None
        hourly = _comparisons_per_hour(connection, now, timed) if alive else None
    left = max(total - done, 0) / hourly * 3600 if total is not None and hourly else None
    return Status(counts, done, total, alive, best, trial, epochs, pace, hourly, left, saved)


def _epochs(connection: sqlite3.Connection, table: str) -> tuple[int, int]:
    """Epochs trained by all comparisons, and epochs that stopped ones had left."""
    trained = f"SELECT trial_id, max(epoch) AS last FROM {table} GROUP BY trial_id"
    due = "CASE WHEN json_valid(config) THEN json_extract(config, '$.epochs') END"
    epochs, saved = connection.execute(
        f"SELECT sum(last), sum(CASE WHEN status = 'stopped' THEN max({due} - last, 0) END) "
        f"FROM trials JOIN ({trained}) USING (trial_id)"
    ).fetchone()
    return int(epochs or 0), int(saved or 0)


def _epochs_per_minute(connection: sqlite3.Connection, now: float) -> float | None:
    """From the first of the last minutes' reports on, so that a driver which has just gone on is not taken for slow."""
    count, first = connection.execute(
        "SELECT count(*), min(time) FROM reports WHERE epoch > 0 AND time BETWEEN ? AND ?", (now - 60 * MINUTES, now)
    ).fetchone()
    return (count - 1) / (now - first) * 60 if count > 1 and now > first else None


def _comparisons_per_hour(connection: sqlite3.Connection, now: float, timed: bool) -> float | None:
    started = connection.execute("SELECT min(started) FROM trials").fetchone()[0]
    if started is None:
        return None
    recent = max(float(started), now - 3600)
    if timed:  # a study that lay still in this hour, and goes on, is not taken for slow
        query = "SELECT min(time) FROM reports WHERE time BETWEEN ? AND ?"
        recent = connection.execute(query, (recent, now)).fetchone()[0] or recent
    marks = ", ".join("?" * len(DONE))
    for since in (recent, float(started)):
        (count,) = connection.execute(
            f"SELECT count(*) FROM trials WHERE status IN ({marks}) AND ended BETWEEN ? AND ?", (*DONE, since, now)
        ).fetchone()
        if count and now > since:
            return float(count / (now - since) * 3600)
    return None


def render(status: Status) -> str:
    """The status in a few lines."""
    of = f" of {status.total:,}" if status.total is not None else ""
    by_status = ", ".join(f"{count:,} {name}" for name, count in status.counts.items())
    lines = [f"{status.done:,}{of} comparisons done" + (f" ({by_status})" if by_status else "")]
    if status.best is not None:
        lines.append(f"best objective {status.best:+.4f}, comparison {status.best_trial}; searched, not confirmed")
    lines.append(f"{counted(status.epochs, 'epoch')} trained, {status.epochs_saved:,} saved by early stopping")
    pace = [] if status.epochs_per_minute is None else [f"{status.epochs_per_minute:,.1f} epochs a minute"]
    pace += [] if status.comparisons_per_hour is None else [f"{status.comparisons_per_hour:,.1f} comparisons an hour"]
    pace += [] if status.seconds_left is None else [f"about {duration(status.seconds_left)} left"]
    open_ended = status.total is None or status.done < status.total
    if status.alive:
        lines.append(", ".join(pace) or "running; too early to tell how fast")
    elif status.alive is None:
        lines.append("whether a driver is working on it cannot be told: its lock cannot be read")
    elif open_ended:
        lines.append("no driver is working on it; filter-study resume goes on")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Seconds in words: "48 s", "3 min 20 s", "2 h 5 min"; a dash where unknown."""
    if seconds is None or math.isnan(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
