import sqlite3
from pathlib import Path
from typing import Any

import pytest

from study.recorder import FILENAME, Recorder
from trainables.records import COLUMNS


def read(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{folder / FILENAME}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def row(epoch: int, accuracy: float, arm: str = "filtered") -> dict[str, Any]:
    return {"arm": arm, "epoch": epoch, "test_accuracy": accuracy}


def test_rows_are_readable_while_the_study_runs(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, {"optimizer.lr": 0.1, "dataset.classes": None})
        recorder.add("a", [row(0, 0.1), row(1, 0.5)], objective=0.25)
        assert read(tmp_path, "SELECT trial_id, arm, epoch, test_accuracy FROM epochs ORDER BY epoch") == [
            ("a", "filtered", 0, 0.1),
            ("a", "filtered", 1, 0.5),
        ]
        assert read(tmp_path, "SELECT status, objective, config FROM trials") == [
            ("running", 0.25, '{"optimizer.lr": 0.1, "dataset.classes": null}')
        ]


def test_a_row_that_is_written_again_replaces_the_first(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, {})
        recorder.add("a", [row(1, 0.5), row(1, 0.5, "archetype")])
        recorder.add("a", [row(1, 0.75)])
    assert read(tmp_path, "SELECT arm, test_accuracy FROM epochs ORDER BY arm") == [
        ("archetype", 0.5),
        ("filtered", 0.75),
    ]


def test_an_epoch_is_recorded_whole_or_not_at_all(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, {})
        with pytest.raises(sqlite3.Error):
            recorder.add("a", [row(1, 0.5), {"arm": "archetype", "epoch": object()}])  # type: ignore[dict-item]
        recorder.add("a", [row(2, 0.5)])
    assert read(tmp_path, "SELECT epoch FROM epochs") == [(2,)]


def test_what_is_not_a_number_is_recorded_as_missing(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, {})
        recorder.add("a", [row(1, float("nan")), row(2, float("inf"))])
    assert read(tmp_path, "SELECT test_accuracy FROM epochs ORDER BY epoch") == [(None,), (float("inf"),)]


def test_trials_that_still_train_at_the_end_are_interrupted(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for number, trial in enumerate("abc"):
            recorder.start(trial, number, {})
        recorder.end("a", "finished")
        recorder.end("b", "failed", "out of memory")
    assert read(tmp_path, "SELECT trial_id, status, error, ended >= started FROM trials") == [
        ("a", "finished", None, 1),
        ("b", "failed", "out of memory", 1),
        ("c", "interrupted", None, 1),
    ]


def test_the_tables_have_the_declared_columns(tmp_path: Path) -> None:
    with Recorder(tmp_path):
        pass
    names = [name for _, name, *_ in read(tmp_path, "PRAGMA table_info(epochs)")]
    assert names == [column.name for column in COLUMNS]


def test_updates_are_recorded_where_they_are_traced(tmp_path: Path) -> None:
    step = {"arm": "filtered", "epoch": 1, "step": 1, "raw_batches": 3, "samples_trained": 16}
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, {})
        recorder.add("a", [row(1, 0.5)], steps=[step, step | {"step": 2}])
        recorder.add("a", [row(1, 0.5)], steps=[step | {"raw_batches": 4}])
    query = "SELECT trial_id, step, raw_batches, samples_trained, samples_kept FROM steps ORDER BY step"
    assert read(tmp_path, query) == [("a", 1, 4, 16, None), ("a", 2, 3, 16, None)]
