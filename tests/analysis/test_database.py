import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.database import TableError, reading, repair, salvage

PAGE = 4096
BOTTOM = 40
"""No page holds more rows of the table epochs than this."""


@pytest.fixture(scope="module")
def whole(trial, database, tmp_path_factory):
    """A study's file with thousands of rows: its bytes, and its rows of epochs."""
    accuracies = [epoch / 50 for epoch in range(40)]
    trials = [trial(n, {"archetype": accuracies, "filtered": accuracies}) for n in range(40)]
    file = database(tmp_path_factory.mktemp("whole"), trials) / "study.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return file.read_bytes(), rows_of(file)[0]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "study.sqlite"


def rows_of(file, table="epochs"):
    with reading(file) as (connection, lost):
        return set(connection.execute(f"SELECT * FROM {table}")), lost


def with_page(content, page, filling):
    return content[: page * PAGE] + filling + content[(page + 1) * PAGE :]


def root_of(content, name):
    """The page that a table or an index starts at, from 0."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0] - 1


def leaves(content, name="epochs"):
    """The pages, from 0, that hold the rows of a table."""

    def below(page):
        start = page * PAGE + (100 if page == 0 else 0)
        if content[start] != 5:  # no interior page of a table
            return [page]
        cells = int.from_bytes(content[start + 3 : start + 5])
        pointers = [int.from_bytes(content[start + 12 + 2 * n : start + 14 + 2 * n]) for n in range(cells)]
        children = [content[page * PAGE + at : page * PAGE + at + 4] for at in pointers]
        children.append(content[start + 8 : start + 12])
        return [leaf for child in children for leaf in below(int.from_bytes(child) - 1)]

    return below(root_of(content, name))


def test_a_sound_file_loses_nothing(whole, file):
    file.write_bytes(whole[0])
    assert rows_of(file) == (whole[1], ())
    assert len(whole[1]) == 3200
    assert [path.name for path in file.parent.iterdir()] == ["study.sqlite"]


@pytest.mark.slow
@pytest.mark.parametrize("filling", [bytes(PAGE), random.Random(0).randbytes(PAGE)], ids=["zeros", "noise"])
def test_a_damaged_page_costs_its_own_rows_alone(whole, file, filling):
    content, rows = whole
    roots = {root_of(content, name) for name in ("trials", "epochs")}
    costly = 0
    for page in set(range(1, len(content) // PAGE, 11)) - roots:
        file.write_bytes(with_page(content, page, filling))
        left, lost = rows_of(file)
        assert left <= rows
        missing = len(rows - left)
        assert missing <= BOTTOM
        if missing:
            costly += 1
            assert lost == (f"study.sqlite: {missing} row{'s' * (missing > 1)} of table epochs cannot be read",)
        elif not re.fullmatch(r"study\.sqlite: \d+ rows? of table trials cannot be read", "; ".join(lost)):
            assert lost == ("study.sqlite: is damaged, but all its rows can be read",)
    assert costly > 10


def test_a_value_that_does_not_suit_its_column_is_no_damage_to_the_file(whole, file):
    file.write_bytes(whole[0])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE epochs SET steps = NULL")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' steps INTEGER', ' steps INTEGER NOT NULL')")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check(1)").fetchone() == ("NULL value in epochs.steps",)
    assert rows_of(file)[1] == ()


def test_the_other_tables_outlive_one_whose_root_is_lost(whole, file):
    file.write_bytes(with_page(whole[0], root_of(whole[0], "epochs"), bytes(PAGE)))
    assert rows_of(file) == (set(), ("study.sqlite: 3,200 rows of table epochs cannot be read",))
    assert len(rows_of(file, "trials")[0]) == 40


def test_damage_to_table_and_index_is_gone_around(whole, file):
    content, rows = whole
    index = root_of(content, "sqlite_autoindex_epochs_1")
    one, other, *_, last = leaves(content)[20:]
    for pages in ([one], [last], [one, other, last]):
        damaged = with_page(content, index, bytes(PAGE))
        for page in pages:
            damaged = with_page(damaged, page, bytes(PAGE))
        file.write_bytes(damaged)
        left, lost = rows_of(file)
        assert left <= rows
        assert 0 < len(rows - left) <= BOTTOM * len(pages)
        assert lost == (f"study.sqlite: table epochs is damaged: {len(left):,} rows of it can be read, others not",)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.75, 0.99])
def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(whole, file, share):
    content, rows = whole
    file.write_bytes(content[: int(share * len(content))])
    left, lost = rows_of(file)
    assert left <= rows
    assert abs(len(left) - share * len(rows)) < 0.05 * len(rows)
    assert "table epochs" in lost[-1]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_changed_byte_never_costs_more_than_what_it_is_in(whole, tmp_path_factory, place, value):
    content, rows = whole
    file = tmp_path_factory.mktemp("byte") / "study.sqlite"
    at = int(place * len(content))
    file.write_bytes(content[:at] + bytes([content[at] ^ value]) + content[at + 1 :])
    try:
        left, lost = rows_of(file)
    except TableError:
        assert at < PAGE  # the first page, without which nothing can be read
        return
    assert len(left - rows) <= BOTTOM  # rows that are other than they were: a changed number cannot be told
    if len(rows - left) > BOTTOM:
        assert lost


@pytest.mark.parametrize("content", [b"", b"not a database", b"not a database, but long enough for one" * 200])
def test_what_is_no_database_is_said_to_be_none(file, content):
    file.write_bytes(content)
    with pytest.raises(TableError, match=r"study\.sqlite cannot be read as an SQLite file.*restore it"):
        rows_of(file)


def test_a_file_that_may_not_be_read_is_named(whole, file, monkeypatch):
    file.write_bytes(whole[0])

    def refuse(*_args, **_options):
        raise PermissionError("no permission")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TableError, match=r"study\.sqlite cannot be read: no permission; restore it"):
        rows_of(file)


def test_a_missing_file_is_named(file):
    with pytest.raises(TableError, match=r"study\.sqlite is missing"):
        rows_of(file)


def test_a_file_of_a_newer_program_is_refused(whole, file):
    file.write_bytes(whole[0])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version=3")
    with pytest.raises(
        TableError, match=r"was made by a newer filter-study \(format 3; this one reads up to 2\): upgrade$"
    ):
        rows_of(file)


@pytest.fixture
def open_study(tmp_path):
    """A file that somebody has open in WAL mode, and so with side files."""
    folder = tmp_path / "open"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE epochs (trial_id TEXT, epoch INTEGER)")
        connection.executemany("INSERT INTO epochs VALUES ('a', ?)", [(n,) for n in range(100)])
        yield folder


@pytest.mark.parametrize("unusable", [False, True], ids=["writable", "unwritable"])
def test_what_a_dead_driver_left_in_its_wal_counts(open_study, file, unusable):
    for name in ("study.sqlite", "study.sqlite-wal"):
        shutil.copy(open_study / name, file.parent)
    if unusable:
        (file.parent / "study.sqlite-shm").mkdir()  # as on a read-only medium, SQLite has no place for its lock file
    assert len(rows_of(file)[0]) == 100


def test_what_a_dead_driver_had_not_committed_does_not_count(whole, file, tmp_path):
    dying = tmp_path / "dying.sqlite"
    dying.write_bytes(whole[0])
    with closing(sqlite3.connect(dying, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=2")  # so that what is not committed reaches the file
        connection.execute("BEGIN")
        connection.execute("UPDATE epochs SET epoch = epoch + 1000")
        shutil.copy(dying, file)
        shutil.copy(f"{dying}-journal", f"{file}-journal")
    before = file.read_bytes()
    assert before != whole[0]
    assert rows_of(file) == (whole[1], ())
    assert file.read_bytes() == before


def test_a_writer_is_neither_seen_in_the_middle_nor_held_up(open_study):
    with closing(sqlite3.connect(open_study / "study.sqlite", isolation_level=None, timeout=0)) as writer:
        writer.execute("BEGIN")
        writer.execute("DELETE FROM epochs")
        with reading(open_study / "study.sqlite") as (connection, _):
            count = "SELECT count(*) FROM epochs"
            assert connection.execute(count).fetchone() == (100,)
            writer.execute("COMMIT")
            assert connection.execute(count).fetchone() == (100,)
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("DELETE FROM epochs")


def test_an_error_while_reading_is_a_table_error(whole, file):
    file.write_bytes(with_page(whole[0], leaves(whole[0])[20], bytes(PAGE)))
    with pytest.raises(TableError, match="malformed"), reading(file, check=False) as (connection, _):
        connection.execute("SELECT * FROM epochs").fetchall()


def test_text_that_is_not_utf_8_is_marked(whole, file):
    file.write_bytes(whole[0])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE trials SET error = CAST(x'41ff' AS TEXT) WHERE number = 7")
    assert [row[4] for row in rows_of(file, "trials")[0] if row[1] == 7] == ["A\ufffd"]


def test_what_can_be_read_becomes_a_sound_file(whole, file, tmp_path):
    file.write_bytes(with_page(whole[0], leaves(whole[0])[20], bytes(PAGE)))
    lost = salvage(file, tmp_path / "new.sqlite")
    assert lost[0].endswith("rows of table epochs cannot be read")
    left, none = rows_of(tmp_path / "new.sqlite")
    assert none == ()
    assert left == rows_of(file)[0]
    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        with pytest.raises(sqlite3.IntegrityError):  # keys are keys again
            connection.execute("INSERT INTO epochs SELECT * FROM epochs LIMIT 1")


def test_a_repaired_file_stands_in_the_place_of_the_damaged_one(whole, file):
    content, rows = whole
    damaged = with_page(content, leaves(content)[20], bytes(PAGE))
    file.write_bytes(damaged)
    lost = repair(file)
    assert "cannot be read" in lost[0]
    assert lost[1].endswith("the damaged file is kept as study.sqlite.damaged")
    left, none = rows_of(file)
    assert none == ()
    assert 0 < len(rows - left) <= BOTTOM
    assert (file.parent / "study.sqlite.damaged").read_bytes() == damaged
    assert repair(file) == ()
    file.write_bytes(damaged)
    assert repair(file)[1].endswith("study.sqlite.damaged1")
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "study.sqlite",
        "study.sqlite.damaged",
        "study.sqlite.damaged1",
    ]


def test_a_sound_file_is_not_repaired(whole, file):
    file.write_bytes(whole[0])
    assert repair(file) == ()
    assert file.read_bytes() == whole[0]
    assert [path.name for path in file.parent.iterdir()] == ["study.sqlite"]


def test_a_repair_takes_along_what_is_in_the_wal(whole, file, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "study.sqlite").write_bytes(with_page(whole[0], leaves(whole[0])[20], bytes(PAGE)))
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE trials SET error = 'late'")
        for name in ("study.sqlite", "study.sqlite-wal"):
            shutil.copy(folder / name, file.parent)
    repair(file)
    assert {row[4] for row in rows_of(file, "trials")[0]} == {"late"}
    assert not (file.parent / "study.sqlite-wal").exists()
    assert (file.parent / "study.sqlite.damaged-wal").is_file()
