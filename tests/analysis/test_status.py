import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from analysis.database import TableError
from analysis.status import Status, duration, render, status
from trainables.records import COLUMNS

NOW = 1_000_000.0
TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}


def write(folder, trials, reports=(), rows=(), timed=True):
    """A record with these trials (as keywords), reports (trial, epoch, seconds ago) and rows (trial, arm, epoch)."""
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        connection.execute(
            "CREATE TABLE trials (trial_id TEXT PRIMARY KEY, number INTEGER, configuration TEXT, status TEXT, "
            "error TEXT, started REAL, ended REAL, objective REAL, config TEXT)"
        )
        columns = ", ".join(f"{column.name} {TYPES[column.type]}" for column in COLUMNS)
        connection.execute(f"CREATE TABLE epochs ({columns}, PRIMARY KEY (trial_id, arm, epoch))")
        connection.executemany("INSERT INTO epochs (trial_id, arm, epoch) VALUES (?, ?, ?)", rows)
        if timed:
            connection.execute(
                "CREATE TABLE reports (sequence INTEGER PRIMARY KEY, trial_id TEXT, epoch INTEGER, time REAL, "
                "objectives TEXT, scheduled REAL, UNIQUE (trial_id, epoch))"
            )
            connection.executemany(
                "INSERT INTO reports (trial_id, epoch, time) VALUES (?, ?, ?)",
                [(trial, epoch, NOW - ago) for trial, epoch, ago in reports],
            )
        for number, trial in enumerate(trials):
            values = {"trial_id": f"t{number}", "number": number, "config": '{"epochs": 10}', **trial}
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO trials ({names}) VALUES ({marks})", list(values.values()))
    return folder


def ended(state, started, ended, objective=None):
    return {"status": state, "started": NOW - started, "ended": NOW - ended, "objective": objective}


@pytest.fixture
def folder(tmp_path):
    """Of 10 comparisons 5 have ended in 30 minutes, and the sixth runs; 7 reports are of the last 5 minutes."""
    trials = [
        ended("finished", 1800, 1200, 0.25),
        ended("finished", 1800, 900, 0.5),
        ended("stopped", 1200, 600, 0.75),
        ended("diverged", 900, 500),
        ended("failed", 700, 400),
        {"status": "running", "started": NOW - 400, "objective": 0.9},
    ]
    reports = [("t0", n, 1800 - n * 60) for n in range(1, 11)] + [("t1", n, 1800 - n * 90) for n in range(1, 11)]
    reports += [("t2", n, 1200 - n * 100) for n in range(1, 5)] + [("t3", 1, 600)]
    reports += [("t5", n, 280 - n * 40) for n in range(1, 7)] + [("t5", 7, 0)]
    return write(tmp_path / "study", trials, reports)


def test_a_running_study(folder):
    found = status(folder, NOW, total=10, alive=True)
    assert found == Status(
        counts={"running": 1, "finished": 2, "stopped": 1, "diverged": 1, "failed": 1},
        done=5,
        total=10,
        alive=True,
        best=0.5,
        best_trial="t1",
        epochs=10 + 10 + 4 + 1 + 7,
        epochs_per_minute=6 / 4,  # 7 reports in the 240 s since the first of them
        comparisons_per_hour=pytest.approx(5 / 1740 * 3600),  # the first report was 1,740 s ago
        seconds_left=pytest.approx(5 * 1740 / 5),
        epochs_saved=10 - 4,
    )
    assert render(found).splitlines() == [
        "5 of 10 comparisons done (1 running, 2 finished, 1 stopped, 1 diverged, 1 failed)",
        "best objective +0.5000, comparison t1; searched, not confirmed",
        "32 epochs trained, 6 saved by early stopping",
        "1.5 epochs a minute, 10.3 comparisons an hour, about 29 min 0 s left",
    ]


def test_a_study_without_a_driver_has_no_speed(folder):
    found = status(folder, NOW, total=10)
    assert (found.epochs_per_minute, found.comparisons_per_hour, found.seconds_left) == (None, None, None)
    assert render(found).splitlines()[-1] == "no driver is working on it; filter-study resume goes on"


def test_a_study_whose_lock_cannot_be_read_has_no_speed_and_says_so(folder):
    found = status(folder, NOW, total=10, alive=None)
    assert (found.epochs_per_minute, found.comparisons_per_hour, found.seconds_left) == (None, None, None)
    last = render(found).splitlines()[-1]
    assert last == "whether a driver is working on it cannot be told: its lock cannot be read"


def test_a_study_that_is_done(tmp_path):
    folder = write(tmp_path / "study", [ended("finished", 60, 30, 0.5)], [("t0", 10, 30)])
    assert render(status(folder, NOW, total=1)).splitlines() == [
        "1 of 1 comparisons done (1 finished)",
        "best objective +0.5000, comparison t0; searched, not confirmed",
        "10 epochs trained, 0 saved by early stopping",
    ]


def test_the_smallest_objective_can_be_best(folder):
    found = status(folder, NOW, mode="min")
    assert (found.best, found.best_trial) == (0.25, "t0")


def test_without_a_total_no_time_left_is_told(folder):
    found = status(folder, NOW, alive=True)
    assert found.seconds_left is None
    assert render(found).startswith("5 comparisons done (")


def test_a_study_that_starts(tmp_path):
    folder = write(tmp_path / "study", [])
    found = status(folder, NOW, total=20, alive=True)
    assert found.counts == {}
    assert render(found).splitlines() == [
        "0 of 20 comparisons done",
        "0 epochs trained, 0 saved by early stopping",
        "running; too early to tell how fast",
    ]


def test_a_rest_does_not_count_as_slowness(tmp_path):
    # Ten hours ago one comparison took half an hour; a minute ago the study went on, and two have ended since.
    trials = [ended("finished", 36000, 34200), ended("finished", 50, 20), ended("finished", 50, 10)]
    reports = [("t0", 1, 34200), ("t1", 1, 40), ("t1", 2, 30), ("t1", 3, 20), ("t2", 1, 10)]
    found = status(write(tmp_path / "study", trials, reports), NOW, alive=True)
    assert found.epochs_per_minute == 3 / 40 * 60
    assert found.comparisons_per_hour == 2 / 40 * 3600


def test_long_comparisons_have_a_speed_too(tmp_path):
    trials = [ended("finished", 36000, 18000), {"status": "running", "started": NOW - 18000}]
    found = status(write(tmp_path / "study", trials, [("t1", 1, 60)]), NOW, total=2, alive=True)
    assert found.epochs_per_minute is None
    assert found.comparisons_per_hour == pytest.approx(0.1)
    assert found.seconds_left == pytest.approx(36000)


def test_a_record_from_before_reports(tmp_path):
    rows = [("t0", arm, epoch) for arm in ("archetype", "filtered") for epoch in range(4)]
    folder = write(tmp_path / "study", [ended("stopped", 60, 30)], rows=rows, timed=False)
    found = status(folder, NOW, alive=True)
    assert (found.epochs, found.epochs_saved, found.epochs_per_minute) == (3, 7, None)
    assert found.comparisons_per_hour == 60


def test_a_damaged_configuration_saves_nothing(tmp_path):
    folder = write(tmp_path / "study", [ended("stopped", 60, 30) | {"config": "{"}], [("t0", 4, 30)])
    assert status(folder, NOW).epochs_saved == 0


def test_what_is_no_study_is_named(tmp_path):
    with pytest.raises(TableError, match=r"study\.sqlite is missing"):
        status(tmp_path, NOW)
    with closing(sqlite3.connect(tmp_path / "study.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE other (a)")
    with pytest.raises(TableError, match="no table 'trials'"):
        status(tmp_path, NOW)


def test_a_writer_is_not_held_up(folder):
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None, timeout=0)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET status = 'finished' WHERE status = 'running'")
        assert status(folder, NOW).counts["running"] == 1
        writer.execute("COMMIT")
    assert "running" not in status(folder, NOW).counts


def test_a_status_needs_no_pandas():
    code = "import sys, analysis.status; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.slow
def test_ten_thousand_comparisons_take_about_a_second(tmp_path):
    trials = [
        ended("stopped", 1e6 - n, 9e5 - n, 0.5) | {"config": json.dumps({"epochs": 50, "seed": n})}
        for n in range(10_000)
    ]
    reports = [(f"t{n}", epoch, n) for n in range(10_000) for epoch in range(1, 31)]
    folder = write(tmp_path / "study", trials, reports)
    before = time.perf_counter()
    found = status(folder, NOW, total=20_000, alive=True)
    assert time.perf_counter() - before < 5  # a fraction of a second on an idle machine
    assert (found.done, found.epochs, found.epochs_saved) == (10_000, 300_000, 200_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (48.4, "48 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (float("nan"), "–"), (None, "–")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
