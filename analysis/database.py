"""A study's SQLite file: opened for reading as it is at one moment, and salvaged where it is damaged.

Needs no pandas. Nothing that is read is executed or unpickled, and only :func:`repair` changes anything.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from trainables.errors import UserError
from trainables.records import FORMAT

DATABASE = "study.sqlite"
SIDE_FILES = ("-wal", "-journal")
"""What SQLite may have left beside a file that was not closed, and needs to read it."""

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR)
UNOPENED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

LOCKLESS = (
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_PROTOCOL,
)
"""SQLite's extended error codes for a file system that has no locks or no shared memory."""


class TableError(UserError, ValueError):
    """A table cannot be read or does not hold what is asked of it; the message names the file, column and remedy."""


@contextmanager
def reading(file: Path, check: bool = True) -> Iterator[tuple[sqlite3.Connection, tuple[str, ...]]]:
    """A connection to read the study's file ``file``, all of one moment, and what of it is lost, a line each.

    The study may be running, and is not disturbed. With ``check``, a damaged file is salvaged first, and the connection
    is to a temporary copy of what can be read. Text that is not UTF-8 has replacement characters.

    Raises:
        TableError: there is no such file, nothing in it can be read, or a newer version of the program has made it;
            also for an SQLite error while it is read.
    """
    try:
        with ExitStack() as stack:
            connection = _open(file, stack)
            lost: tuple[str, ...] = ()
            if check and _damaged(connection):
                sound = Path(stack.enter_context(TemporaryDirectory(prefix="filter-study-"))) / DATABASE
                lost = _rescue(connection, file.name, sound)
                connection = stack.enter_context(closing(_connect(sound, "mode=ro")))
            yield connection, lost
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from names of damaged columns
        held = _code(error) == sqlite3.SQLITE_BUSY
        remedy = "try again when the other program is done" if held else "restore it or run the study again"
        raise TableError(f"{file} cannot be read as an SQLite file: {error}; {remedy}") from error


def salvage(file: Path, into: Path) -> tuple[str, ...]:
    """Copy every row of ``file`` that can be read to the new SQLite file ``into``; what is lost, a line each.

    Raises:
        TableError: as :func:`reading`, or ``into`` cannot be written.
    """
    with reading(file, check=False) as (connection, _):
        return _rescue(connection, file.name, into)


def repair(file: Path) -> tuple[str, ...]:
    """Put what can be read of a damaged ``file`` in its place; what is lost, a line each, none if it is sound.

    The damaged file stays beside it, named ``….damaged``. Nobody else may have it open.

    Raises:
        TableError: as :func:`salvage`.
    """
    with reading(file, check=False) as (connection, _):
        if not _damaged(connection):
            return ()
    sound = file.with_name(f"{file.name}.partial")
    kept = f"{file.name}.damaged"
    kept += str(sum(1 for _ in file.parent.glob(f"{kept}*")) or "")
    try:
        sound.unlink(missing_ok=True)
        lost = salvage(file, sound)
        _copy(file, file.with_name(kept))
        for suffix in (*SIDE_FILES, "-shm"):  # which do not belong to the file that comes
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        sound.replace(file)
    except OSError as error:
        raise TableError(f"{file} is damaged and cannot be replaced: {error}; make room or copy the study") from error
    return (*lost, f"{file.name}: was damaged and has been made anew; the damaged file is kept as {kept}")


def tables(connection: sqlite3.Connection) -> list[str]:
    """The names of the tables in a study's file."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
    return [name for (name,) in connection.execute(query)]


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table; none where there is no such table."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(table)})")]


def counted(n: int, noun: str) -> str:
    """A number of things: "1 row", "2,000 rows"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _open(file: Path, stack: ExitStack) -> sqlite3.Connection:
    if not file.is_file():
        raise TableError(f"{file} is missing; give the directory of a study")
    try:
        cut = _cut(file)
        connection = None if cut else _open_in_place(file)
        if connection is None:
            copied = Path(stack.enter_context(TemporaryDirectory(prefix="filter-study-"))) / DATABASE
            _copy(file, copied)
            os.truncate(copied, copied.stat().st_size - cut)
            connection = _connect(copied, "mode=rw")
    except OSError as error:
        raise TableError(f"{file} cannot be read: {error}; restore it, or make room for a copy") from error
    stack.enter_context(closing(connection))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise TableError(
            f"{file} was made by a newer filter-study (format {version}; this one reads up to {FORMAT}): upgrade"
        )
    return connection


def _open_in_place(file: Path) -> sqlite3.Connection | None:
    """A connection that reads ``file`` where it is; None where a copy is needed.

    That is where a dead driver's side files are, and no lock file can be, and where the file system has no locks.
    Without side files, nobody writes to what cannot be written, and no lock file is needed.
    """
    beside = any(file.with_name(file.name + suffix).exists() for suffix in SIDE_FILES)
    alone = not beside and not os.access(file.parent, os.W_OK)
    try:
        return _connect(file, "mode=ro&immutable=1" if alone else "mode=ro")
    except sqlite3.OperationalError as error:
        if _code(error) not in UNOPENED and not lacks_locks(error):
            raise
        return None


def _cut(file: Path) -> int:
    """The bytes of a page that was cut at the end of the file, of which SQLite would read the rest as zeros."""
    with file.open("rb") as stream:
        head = stream.read(18)
    page = int.from_bytes(head[16:])
    page = 65536 if page == 1 else page
    length = file.stat().st_size
    return length % page if head.startswith(b"SQLite format 3\0") and 0 < page < length else 0


def _copy(file: Path, to: Path) -> None:
    for suffix in ("", *SIDE_FILES):
        if file.with_name(file.name + suffix).exists():
            shutil.copyfile(file.with_name(file.name + suffix), to.with_name(to.name + suffix))


def _connect(file: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(file.resolve()))}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
    try:
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        connection.execute("PRAGMA writable_schema=ON")  # or SQLite reads nothing of a file that was cut short
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _damaged(connection: sqlite3.Connection) -> bool:
    """Whether the structure of the file is damaged; a value of a wrong type, is none."""
    try:
        answers = [answer for (answer,) in connection.execute("PRAGMA integrity_check(100)")]
    except sqlite3.Error as error:
        if _code(error) not in DAMAGE:
            raise
        return True
    return any(answer != "ok" and " value in " not in answer for answer in answers)


def _rescue(connection: sqlite3.Connection, name: str, into: Path) -> tuple[str, ...]:
    lost = []
    with closing(sqlite3.connect(into, isolation_level=None)) as sound:
        sound.execute("PRAGMA synchronous=FULL")
        sound.execute("BEGIN")
        for table, sql in connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
        ).fetchall():
            sound.execute(sql)
            rows, missing = _rows(connection, table)
            marks = ", ".join("?" * len(columns(connection, table)))
            sound.executemany(f"INSERT OR IGNORE INTO {_quoted(table)} VALUES ({marks})", rows)
            if missing is None:
                lost.append(
                    f"{name}: table {table} is damaged: {counted(len(rows), 'row')} of it can be read, others not"
                )
            elif missing:
                lost.append(f"{name}: {counted(missing, 'row')} of table {table} cannot be read")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        sound.execute(f"PRAGMA user_version={version}")
        sound.execute("COMMIT")
    return tuple(lost or [f"{name}: is damaged, but all its rows can be read"])


def _rows(connection: sqlite3.Connection, table: str) -> tuple[list[tuple[Any, ...]], int | None]:
    """The rows of a table that can be read, in the order of writing, and how many cannot; None where nobody knows."""
    query = f"SELECT rowid, * FROM {_quoted(table)} NOT INDEXED"
    known = _indexed(connection, table)
    try:
        found, whole = connection.execute(query).fetchall(), True
    except sqlite3.Error as error:
        if _code(error) not in DAMAGE:
            raise
        whole = False
        ids = range(1, _reach(connection, table) + 1) if known is None else known
        found = _around(connection, f"{query} WHERE rowid BETWEEN ? AND ?", ids)
    rows = {row[0]: row[1:] for row in found}
    if known is None:
        return [rows[key] for key in sorted(rows)], 0 if whole else None
    return [rows[key] for key in sorted(rows)], len(set(known) - rows.keys())


def _indexed(connection: sqlite3.Connection, table: str) -> Sequence[int] | None:
    """The rowids of a table as the index of its key has them, ascending; None where there is no index to be read."""
    try:
        for _, index, *_ in connection.execute(f"PRAGMA index_list({_quoted(table)})").fetchall():
            query = f"SELECT rowid FROM {_quoted(table)} INDEXED BY {_quoted(index)}"
            return sorted(key for (key,) in connection.execute(query))
    except sqlite3.Error as error:
        if _code(error) not in DAMAGE:
            raise
    return None


def _reach(connection: sqlite3.Connection, table: str) -> int:
    """A rowid that no row that can be read exceeds."""
    query = f"SELECT max(rowid) FROM {_quoted(table)} NOT INDEXED WHERE rowid <= ?"
    top = most = 2**62
    while top:
        try:
            (last,) = connection.execute(query, (top,)).fetchone()
        except sqlite3.Error as error:
            if _code(error) not in DAMAGE:
                raise
            top //= 2
        else:
            return last or 0 if top == most else 2 * top
    return 0


def _around(connection: sqlite3.Connection, query: str, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """The rows with these rowids, ascending; where they cannot be read together, each half for itself."""
    if not ids:
        return []
    try:
        return connection.execute(query, (ids[0], ids[-1])).fetchall()
    except sqlite3.Error as error:
        if _code(error) not in DAMAGE:
            raise
    middle = len(ids) // 2
    return _around(connection, query, ids[:middle]) + _around(connection, query, ids[middle:]) if middle else []


def lacks_locks(error: sqlite3.Error) -> bool:
    """Whether SQLite fails because the file system has no locks or no shared memory."""
    return _extended_code(error) in LOCKLESS


def _code(error: Exception) -> int:
    """SQLite's primary error code; 0 for errors that are not SQLite's."""
    return _extended_code(error) & 0xFF


def _extended_code(error: Exception) -> int:
    """SQLite's extended error code; 0 for errors that are not SQLite's: Python's own module raises some without one."""
    return getattr(error, "sqlite_errorcode", 0)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
