"""The record of a study: every epoch's row as it comes, in one SQLite file that can be read while the study runs.

One process writes (the driver). A row's key is (trial_id, arm, epoch), and writing it again replaces it, so that
nothing can stand twice. Each call is one transaction: a crash loses the call it interrupts and nothing else. All that
a study needs to go on is here, in plain values: what ran, how far, and in which order its results came.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from analysis.database import lacks_locks
from trainables.errors import UserError
from trainables.records import (
    BUILT_IN,
    DECLARATIONS,
    DECLARED_IN,
    FORMAT,
    KEYS,
    STEP_COLUMNS,
    TRIAL_COLUMNS,
    Column,
    Columns,
    Row,
    declarations,
)

FILENAME = "study.sqlite"
BY_STEP = next(column for column in STEP_COLUMNS if column.name == "step")
CONFIG = Column("config", "str", "", "the configuration's dotted keys, as JSON")
_SQL_TYPE = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}
_REPORTS = """CREATE TABLE IF NOT EXISTS reports (sequence INTEGER PRIMARY KEY, trial_id TEXT, epoch INTEGER, time REAL,
    objectives TEXT, scheduled REAL, UNIQUE (trial_id, epoch))"""
_CHANGES = """CREATE TABLE IF NOT EXISTS changes (sequence INTEGER PRIMARY KEY, trial_id TEXT, epoch INTEGER, time REAL,
    parent TEXT, config TEXT)"""


class RecordError(UserError):
    """A study's record cannot be written or read."""


class Recorder:
    """Writes the tables ``trials``, ``epochs``, ``steps``, ``reports`` and ``changes``; use as a context manager.

    ``declared`` are the columns of ``epochs``. The table ``columns`` holds what every column means. Columns that a
    record of an earlier version lacks are added to its tables, without values.

    Raises:
        RecordError: from every method, when the file cannot be written: a full disk, a damaged file.
    """

    def __init__(self, folder: Path, declared: Columns = BUILT_IN) -> None:
        self._path = folder / FILENAME
        self._columns = declared.all
        with self._explained():
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        with self._transaction():
            self._connection.execute(f"PRAGMA user_version={FORMAT}")
            self._create("trials", (*TRIAL_COLUMNS, CONFIG), TRIAL_COLUMNS[:1])
            self._connection.execute(_REPORTS)
            self._connection.execute(_CHANGES)
            self._create("epochs", self._columns, KEYS)
            self._create("steps", STEP_COLUMNS, (*KEYS, BY_STEP))
            self._declare()

    def _create(self, table: str, columns: Sequence[Column], keys: Sequence[Column]) -> None:
        names = _listed([column.name for column in keys])
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({_columns(columns)}, PRIMARY KEY ({names}))")
        present = {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
        for column in columns:
            if column.name not in present:
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {_columns([column])}")

    def _declare(self) -> None:
        """Write down type, unit, direction and meaning of every column."""
        self._create(DECLARED_IN, DECLARATIONS, DECLARATIONS[:2])
        names = [column.name for column in DECLARATIONS]
        rows = declarations(self._columns)
        marks = ", ".join("?" * len(names))
        self._connection.executemany(f"INSERT OR REPLACE INTO {DECLARED_IN} ({_listed(names)}) VALUES ({marks})", rows)

    def _replace(self, table: str, columns: Sequence[Column], trial_id: str, rows: Sequence[Row]) -> None:
        names = [column.name for column in columns]
        values = [[trial_id if name == "trial_id" else row.get(name) for name in names] for row in rows]
        marks = ", ".join("?" * len(names))
        self._connection.executemany(f"INSERT OR REPLACE INTO {table} ({_listed(names)}) VALUES ({marks})", values)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        """Mark what still trains as interrupted; leave one plain file, readable wherever it is put."""
        with contextlib.suppress(sqlite3.Error):  # a full disk: they stay as running, which resume takes likewise
            self._connection.execute(
                "UPDATE trials SET status = 'interrupted', ended = ? WHERE status = 'running'", (time.time(),)
            )
        with contextlib.suppress(sqlite3.Error):  # somebody is reading: the file stays as it is, and readable
            self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()

    def start(
        self, trial_id: str, number: int, configuration: str, config: Mapping[str, Any], proposed_by: str | None = None
    ) -> None:
        """A trial starts to train, or goes on, under the configuration with these dotted keys.

        ``proposed_by`` is the side whose own search proposed it, where each has one.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT INTO trials (trial_id, number, configuration, status, started, config, proposed_by) "
                "VALUES (?, ?, ?, 'running', ?, ?, ?) "
                "ON CONFLICT (trial_id) DO UPDATE SET status = 'running', ended = NULL, error = NULL, "
                "config = excluded.config",
                (trial_id, number, configuration, time.time(), json.dumps(config), proposed_by),
            )

    def add(
        self,
        trial_id: str,
        rows: Sequence[Row],
        objectives: Sequence[float],
        scheduled: float = math.nan,
        steps: Sequence[Row] = (),
    ) -> None:
        """The rows of an epoch, of its updates if they are traced, and what search and scheduler hear after it.

        Rows of a later epoch are of a past that a crash has undone, and go.
        """
        first = min(int(row["epoch"] or 0) for row in rows)
        last = max(int(row["epoch"] or 0) for row in rows)
        finite = [value if math.isfinite(value) else None for value in objectives]
        with self._transaction():
            for table in ("epochs", "steps"):
                self._connection.execute(f"DELETE FROM {table} WHERE trial_id = ? AND epoch >= ?", (trial_id, first))
            self._replace("epochs", self._columns, trial_id, rows)
            self._replace("steps", STEP_COLUMNS, trial_id, steps)
            self._connection.execute(
                "INSERT OR IGNORE INTO reports (trial_id, epoch, time, objectives, scheduled) VALUES (?, ?, ?, ?, ?)",
                (trial_id, last, time.time(), json.dumps(finite), scheduled),
            )
            self._connection.execute("UPDATE trials SET objective = ? WHERE trial_id = ?", (objectives[0], trial_id))

    def change(self, trial_id: str, epoch: int, config: Mapping[str, Any], parent: str) -> None:
        """A trial goes on after ``epoch`` under another configuration, from the state of the trial ``parent``."""
        text = json.dumps(config)
        with self._transaction():
            self._connection.execute(
                "INSERT INTO changes (trial_id, epoch, time, parent, config) VALUES (?, ?, ?, ?, ?)",
                (trial_id, epoch, time.time(), parent, text),
            )
            self._connection.execute("UPDATE trials SET config = ? WHERE trial_id = ?", (text, trial_id))

    def rows(self, trial_id: str) -> list[Row]:
        """The rows of a trial, by epoch."""
        names = [column.name for column in self._columns]
        query = f"SELECT {_listed(names)} FROM epochs WHERE trial_id = ? ORDER BY epoch, arm"
        with self._explained():
            return [dict(zip(names, row, strict=True)) for row in self._connection.execute(query, (trial_id,))]

    def end(self, trial_id: str, status: str, error: str | None = None) -> None:
        """A trial ends; ``status`` is one of :data:`trainables.records.STATUSES`, ``error`` what was the reason."""
        with self._transaction():
            self._connection.execute(
                "UPDATE trials SET status = ?, error = ?, ended = ? WHERE trial_id = ?",
                (status, error, time.time(), trial_id),
            )

    def rewind(self, trial_id: str, epoch: int) -> None:
        """Forget what was recorded of a trial after ``epoch``; it is to be continued from there."""
        with self._transaction():
            for table in ("epochs", "steps", "reports"):
                self._connection.execute(f"DELETE FROM {table} WHERE trial_id = ? AND epoch > ?", (trial_id, epoch))
            self._connection.execute("UPDATE trials SET status = 'interrupted' WHERE trial_id = ?", (trial_id,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if lacks_locks(error):
                raise RecordError(
                    f"{self._path} cannot be written: {error}. Its file system lacks the locks or the shared memory "
                    "that SQLite needs: keep the study on a local disk"
                ) from error
            raise RecordError(
                f"{self._path} cannot be written: {error}. What was recorded before is intact: when there is room "
                f"again, go on with: filter-study resume {quote(str(self._path.parent))}"
            ) from error


def _columns(columns: Sequence[Column]) -> str:
    return ", ".join(f'"{column.name}" {_SQL_TYPE[column.type]}' for column in columns)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
