import json
import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from study.history import History, Past, Report, read, retrying
from study.recorder import FILENAME, Recorder, RecordError
from trainables.config import TrialConfig
from trainables.records import FORMAT, STATUSES

CONFIG = TrialConfig.from_dotted({"epochs": 4, "optimizer.lr": 0.1}).to_dotted()
ARMS = ("archetype", "filtered")


def rows(*epochs: int) -> list[dict[str, Any]]:
    return [{"arm": arm, "epoch": epoch, "test_accuracy": 0.5} for epoch in epochs for arm in ARMS]


def train(recorder: Recorder, trial: str, number: int, last: int, status: str | None = None) -> None:
    """A comparison that leaves its epochs up to ``last``, and ends."""
    recorder.start(trial, number, "c", CONFIG)
    for epoch in range(1, last + 1):
        recorder.add(trial, rows(0, 1) if epoch == 1 else rows(epoch), [0.1 * epoch, -1.0], 0.2 * epoch)
    if status is not None:
        recorder.end(trial, status)


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / FILENAME)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_the_time_that_a_comparison_had_for_checkpoints_is_that_of_its_epochs_but_the_last(tmp_path: Path) -> None:
    timed = [{**row, "seconds": 2.0, "evaluate_seconds": 0.5} for row in rows(0, 1, 2, 3)]
    with Recorder(tmp_path) as recorder:
        for trial, number, kept in (
            ("whole", 0, timed),
            ("short", 1, timed[:2]),
            ("holed", 2, [*timed[:4], *timed[6:]]),
        ):
            recorder.start(trial, number, "c", CONFIG)
            recorder.add(trial, kept, [0.1], 0.2)
    comparisons = read(tmp_path).comparisons
    assert {past.trial_id: past.seconds for past in comparisons} == {"whole": 15.0, "short": 0, "holed": 0}


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "b", 1, 4, "finished")
        train(recorder, "a", 0, 2)
        train(recorder, "d", 3, 1, "diverged")
        recorder.start("c", 2, "c", CONFIG)
    history = read(tmp_path)
    found = [(p.trial_id, p.number, p.status, p.epoch, p.unfinished) for p in history.comparisons]
    assert found == [
        ("a", 0, "interrupted", 2, True),
        ("b", 1, "finished", 4, False),
        ("c", 2, "interrupted", -1, True),
        ("d", 3, "diverged", 1, False),
    ]
    assert all(past.config == CONFIG for past in history.comparisons)
    assert all(past.ended is not None and past.ended >= past.started for past in history.comparisons)
    assert history.damage == ()
    assert [(r.trial_id, r.epoch) for r in history.reports] == [
        *(("b", epoch) for epoch in (1, 2, 3, 4)), ("a", 1), ("a", 2), ("d", 1),
    ]  # fmt: skip
    assert history.reports[1] == Report("b", 2, (0.2, -1.0), 0.4)


NUMBER = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.lists(st.tuples(st.lists(NUMBER, min_size=2, max_size=2), NUMBER), max_size=6))
@example([([-0.0, math.nan], -0.0)])
@settings(max_examples=15, deadline=None)
def test_reports_come_back_in_their_order_without_what_is_no_number(
    tmp_path_factory: pytest.TempPathFactory, reported: list[tuple[list[float], float]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    with Recorder(folder) as recorder:
        recorder.start("a", 0, "c", CONFIG)
        for epoch, (objectives, scheduled) in enumerate(reported, 1):
            recorder.add("a", rows(epoch), objectives, scheduled)
    found = [(r.epoch, list(map(known, r.objectives)), known(r.scheduled)) for r in read(folder).reports]
    assert found == [
        (epoch, [known(v) if math.isfinite(v) else None for v in objectives], known(scheduled))
        for epoch, (objectives, scheduled) in enumerate(reported, 1)
    ]


def known(value: float) -> float | None:
    return None if math.isnan(value) else value


def test_a_study_that_was_killed_is_read_with_all_that_it_had_recorded_wherever_it_is_put(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    folder.mkdir()
    script = f"""
import os
from pathlib import Path
from study.recorder import Recorder
from tests.study.test_history import train
recorder = Recorder(Path({str(folder)!r}))
train(recorder, "a", 0, 3)
os.kill(os.getpid(), 9)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
    assert process.returncode == -9
    elsewhere.mkdir()
    for path in folder.iterdir():
        if not path.name.endswith("-shm"):  # which is of this machine
            shutil.copy(path, elsewhere)
    for place in (elsewhere, folder):
        (past,) = read(place).comparisons
        assert (past.status, past.epoch, past.unfinished) == ("running", 3, True)


def test_a_past_that_a_crash_has_undone_is_no_part_of_it(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 4)
        recorder.add("a", rows(2), [9.0, 9.0], 9.0)  # its worker died, and it goes on from an older checkpoint
        recorder.add("a", rows(3), [9.0, 9.0], 9.0)
    history = read(tmp_path)
    assert (history.comparisons[0].epoch, history.damage) == (3, ())
    assert [report.epoch for report in history.reports] == [1, 2, 3, 4]  # what was heard was heard
    assert history.reports[2].scheduled == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("statement", "epoch"),
    [
        ("DELETE FROM epochs WHERE epoch = 2", 1),
        ("DELETE FROM epochs WHERE epoch = 2 AND arm = 'filtered'", 1),
        ("DELETE FROM epochs WHERE epoch = 0", -1),
        ("DELETE FROM epochs", -1),
        ("DELETE FROM epochs WHERE epoch = 4", 3),
        ("DELETE FROM epochs WHERE epoch = 4 AND arm = 'archetype'", 3),
    ],
)
def test_a_comparison_with_holes_goes_on_before_the_first(tmp_path: Path, statement: str, epoch: int) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 4, "finished")
    change(tmp_path, statement)
    (past,) = (history := read(tmp_path)).comparisons
    assert (past.status, past.epoch) == ("interrupted", epoch)
    assert history.damage == (f"trial a: rows are missing after epoch {epoch}; it goes on from there",)


@pytest.mark.parametrize("status", ["stopped", "diverged", "running", "interrupted"])
def test_one_that_ended_early_has_no_hole_at_its_end(tmp_path: Path, status: str) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 2, status)
    change(tmp_path, f"UPDATE trials SET status = '{status}'")
    (past,) = (history := read(tmp_path)).comparisons
    assert (past.status, past.epoch, history.damage) == (status, 2, ())


def test_one_that_failed_stays_failed_with_the_epochs_that_are_whole(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 4, "failed")
    change(tmp_path, "DELETE FROM epochs WHERE epoch = 3")
    history = read(tmp_path)
    assert [(past.status, past.epoch) for past in history.comparisons] == [("failed", 2)]
    assert history.damage == ()
    assert [past.status for past in retrying(history).comparisons] == ["interrupted"]


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_failed_is_tried_again(status: str) -> None:
    past = Past("a", 0, status, {}, 0.0, None, 1)
    history = History((past,), (Report("a", 1, (0.1,), 0.1),), ("x",))
    again = retrying(history)
    assert again.comparisons[0].status == ("interrupted" if status == "failed" else status)
    assert (again.reports, again.damage) == (history.reports, history.damage)


@pytest.mark.parametrize(
    "damage",
    [
        "config = '{\"epochs\": '",
        "config = NULL",
        "config = '[]'",
        "config = '5'",
        "config = '\"text\"'",
        "config = '{}'",
        "config = x'ff00'",
        "number = NULL",
        "number = 'first'",
    ],
)
def test_a_comparison_whose_configuration_cannot_be_read_is_left_out_and_said(tmp_path: Path, damage: str) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 4, "finished")
        train(recorder, "b", 1, 4, "finished")
    change(tmp_path, f"UPDATE trials SET {damage} WHERE trial_id = 'a'")
    history = read(tmp_path)
    assert [past.trial_id for past in history.comparisons] == ["b"]
    assert history.damage == ("trial a: its configuration or number cannot be read; it is run anew",)


def test_a_comparison_of_a_status_that_is_none_goes_on(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 2, "done")
    (past,) = (history := read(tmp_path)).comparisons
    assert (past.status, past.epoch) == ("interrupted", 2)
    assert history.damage == ("trial a: its status 'done' is none; it goes on",)


@pytest.mark.parametrize("text", ["[0.1", "5", "{}x", '["a"]'])
def test_a_report_that_cannot_be_read_is_left_out_and_said(tmp_path: Path, text: str) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 2)
    change(tmp_path, f"UPDATE reports SET objectives = '{text}' WHERE epoch = 1")
    history = read(tmp_path)
    assert [report.epoch for report in history.reports] == [2]
    assert history.damage == ("trial a: what it reported after epoch 1 cannot be read",)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (FORMAT + 1, rf"was made by a newer filter-study \(format {FORMAT + 1}.* {FORMAT}\): upgrade"),
        (
            FORMAT - 1,
            rf"was made by an older filter-study \(format {FORMAT - 1}, this one continues {FORMAT}\): it can be "
            "reported and exported, not continued",
        ),
    ],
)
def test_a_record_of_another_format_is_refused_with_what_to_do(tmp_path: Path, version: int, message: str) -> None:
    with Recorder(tmp_path):
        pass
    change(tmp_path, f"PRAGMA user_version={version}")
    with pytest.raises(RecordError, match=message):
        read(tmp_path)


def test_where_there_is_no_record_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no study: there is no study\.sqlite in it"):
        read(tmp_path)
    (tmp_path / FILENAME).write_bytes(b"SQLite format 3\0" + b"\xff" * 2000)
    with pytest.raises(RecordError, match=r"cannot be read.*: file is not a database"):
        read(tmp_path)
    (tmp_path / FILENAME).write_bytes(b"")
    with pytest.raises(RecordError, match="made by an older filter-study"):
        read(tmp_path)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        train(recorder, "a", 0, 2)
    before = (tmp_path / FILENAME).read_bytes()
    assert json.dumps(read(tmp_path).comparisons[0].config, sort_keys=True) == json.dumps(CONFIG, sort_keys=True)
    assert (tmp_path / FILENAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILENAME]
