"""The record of a study: every epoch's row as it comes, in one SQLite file that can be read while the study runs.

One process writes (the driver). A row's key is (trial_id, arm, epoch), and writing it again replaces it, so that
nothing can stand twice. Each call is one transaction: a crash loses the call it interrupts and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.records import COLUMNS, KEYS, STEP_COLUMNS, TRIAL_COLUMNS, Column, Row

FILENAME = "study.sqlite"
BY_STEP = next(column for column in STEP_COLUMNS if column.name == "step")
_SQL_TYPE = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}


class Recorder:
    """Writes the tables ``trials`` and ``epochs`` of a study; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / FILENAME, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS trials ({_columns(TRIAL_COLUMNS)}, config TEXT, PRIMARY KEY (trial_id))"
        )
        self._create("epochs", COLUMNS, KEYS)
        self._create("steps", STEP_COLUMNS, (*KEYS, BY_STEP))

    def _create(self, table: str, columns: Sequence[Column], keys: Sequence[Column]) -> None:
        names = ", ".join(column.name for column in keys)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({_columns(columns)}, PRIMARY KEY ({names}))")

    def _replace(self, table: str, columns: Sequence[Column], trial_id: str, rows: Sequence[Row]) -> None:
        names = [column.name for column in columns]
        values = [[trial_id if name == "trial_id" else row.get(name) for name in names] for row in rows]
        marks = ", ".join("?" * len(names))
        self._connection.executemany(f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({marks})", values)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        """Mark what still trains as interrupted; leave one plain file, readable wherever it is put."""
        self._connection.execute(
            "UPDATE trials SET status = 'interrupted', ended = ? WHERE status = 'running'", (time.time(),)
        )
        with contextlib.suppress(
            sqlite3.OperationalError
        ):  # somebody is reading: the file stays as it is, and readable
            self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()

    def start(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """A trial starts to train under the configuration with these dotted keys."""
        self._connection.execute(
            "INSERT OR REPLACE INTO trials (trial_id, number, status, started, config) VALUES (?, ?, 'running', ?, ?)",
            (trial_id, number, time.time(), json.dumps(config)),
        )

    def add(
        self, trial_id: str, rows: Sequence[Row], objective: float | None = None, steps: Sequence[Row] = ()
    ) -> None:
        """The rows of an epoch, of its updates if they are traced, and the objective's value after it."""
        self._connection.execute("BEGIN")
        try:
            self._replace("epochs", COLUMNS, trial_id, rows)
            self._replace("steps", STEP_COLUMNS, trial_id, steps)
            self._connection.execute("UPDATE trials SET objective = ? WHERE trial_id = ?", (objective, trial_id))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def end(self, trial_id: str, status: str, error: str | None = None) -> None:
        """A trial ends; ``status`` is one of :data:`trainables.records.STATUSES`."""
        self._connection.execute(
            "UPDATE trials SET status = ?, error = ?, ended = ? WHERE trial_id = ?",
            (status, error, time.time(), trial_id),
        )


def _columns(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} {_SQL_TYPE[column.type]}" for column in columns)
