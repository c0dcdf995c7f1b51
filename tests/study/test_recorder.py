import sqlite3
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from study.recorder import FILENAME, Recorder, RecordError
from trainables.records import COLUMNS, FORMAT, Column, Columns


def read(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{folder / FILENAME}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def row(epoch: int, accuracy: float, arm: str = "filtered") -> dict[str, Any]:
    return {"arm": arm, "epoch": epoch, "test_accuracy": accuracy}


def test_rows_are_readable_while_the_study_runs(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {"optimizer.lr": 0.1, "dataset.classes": None})
        recorder.add("a", [row(0, 0.1), row(1, 0.5)], [0.25, 7.0], 0.5)
        assert read(tmp_path, "SELECT trial_id, arm, epoch, test_accuracy FROM epochs ORDER BY epoch") == [
            ("a", "filtered", 0, 0.1),
            ("a", "filtered", 1, 0.5),
        ]
        assert read(tmp_path, "SELECT status, number, configuration, objective, config FROM trials") == [
            ("running", 0, "c", 0.25, '{"optimizer.lr": 0.1, "dataset.classes": null}')
        ]
        assert read(tmp_path, "SELECT trial_id, epoch, objectives, scheduled FROM reports") == [
            ("a", 1, "[0.25, 7.0]", 0.5)
        ]


def test_an_epoch_that_is_recorded_again_undoes_what_came_after_it(tmp_path: Path) -> None:
    step = {"arm": "filtered", "samples_trained": 16}
    with Recorder(tmp_path) as recorder:
        for trial in ("a", "b"):
            recorder.start(trial, 0, "c", {})
            for epoch in range(1, 5):
                steps = [{**step, "epoch": epoch, "step": number} for number in (1, 2)]
                recorder.add(trial, [row(epoch, 0.1 * epoch)], [0.0], steps=steps)
        recorder.add("a", [row(3, 0.75)], [0.0], steps=[{**step, "epoch": 3, "step": 1, "samples_trained": 8}])
    assert read(tmp_path, "SELECT epoch, test_accuracy FROM epochs WHERE trial_id = 'a' ORDER BY epoch") == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.75),
    ]
    query = "SELECT epoch, samples_trained FROM steps WHERE trial_id = 'a' ORDER BY epoch"
    assert read(tmp_path, query) == [(1, 16), (1, 16), (2, 16), (2, 16), (3, 8)]
    assert read(tmp_path, "SELECT count(*) FROM epochs WHERE trial_id = 'b'") == [(4,)]


def test_what_was_reported_once_stays_as_the_search_has_heard_it(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {})
        for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 9.0), (3, 9.0), (4, 0.4)):
            recorder.add("a", [row(epoch, 0.5)], [value], value)
    assert read(tmp_path, "SELECT sequence, epoch, objectives, scheduled FROM reports ORDER BY sequence") == [
        (1, 1, "[0.1]", 0.1),
        (2, 2, "[0.2]", 0.2),
        (3, 3, "[0.3]", 0.3),
        (4, 4, "[0.4]", 0.4),
    ]


def test_a_trial_that_is_rewound_forgets_what_came_after(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for trial in ("a", "b"):
            recorder.start(trial, 0, "c", {})
            for epoch in range(1, 4):
                recorder.add(trial, [row(epoch, 0.5)], [0.1])
        recorder.end("a", "finished")
        recorder.rewind("a", 1)
        assert read(tmp_path, "SELECT trial_id, status FROM trials") == [("a", "interrupted"), ("b", "running")]
    for table in ("epochs", "reports"):
        assert read(tmp_path, f"SELECT trial_id, epoch FROM {table} ORDER BY trial_id, epoch") == [
            ("a", 1), ("b", 1), ("b", 2), ("b", 3),
        ]  # fmt: skip


def test_a_trial_that_goes_on_keeps_its_beginning_and_loses_its_error(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 3, "c", {"seed": 1})
        recorder.end("a", "failed", "out of memory")
    ((began,),) = read(tmp_path, "SELECT started FROM trials")
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 3, "c", {"seed": 1})
        query = "SELECT number, status, started, ended, error FROM trials"
        assert read(tmp_path, query) == [(3, "running", began, None, None)]


def test_a_trial_that_is_changed_has_its_last_configuration_and_all_changes(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {"optimizer.lr": 0.1})
        recorder.start("b", 1, "d", {"optimizer.lr": 0.2})
        recorder.change("a", 2, {"optimizer.lr": 0.3}, parent="b")
        recorder.change("a", 4, {"optimizer.lr": 0.4}, parent="b")
    assert read(tmp_path, "SELECT trial_id, configuration, config FROM trials ORDER BY 1") == [
        ("a", "c", '{"optimizer.lr": 0.4}'),
        ("b", "d", '{"optimizer.lr": 0.2}'),
    ]
    assert read(tmp_path, "SELECT trial_id, epoch, parent, config FROM changes ORDER BY sequence") == [
        ("a", 2, "b", '{"optimizer.lr": 0.3}'),
        ("a", 4, "b", '{"optimizer.lr": 0.4}'),
    ]


def test_an_epoch_is_recorded_whole_or_not_at_all(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {})
        recorder.add("a", [row(1, 0.5)], [0.1])
        with pytest.raises(RecordError, match="is intact: when there is room again, go on with: filter-study resume"):
            recorder.add("a", [row(1, 0.75), {"arm": "archetype", "epoch": 2, "steps": object()}], [0.9])  # type: ignore[dict-item]
        recorder.add("a", [row(2, 0.5)], [0.2])
    assert read(tmp_path, "SELECT epoch, test_accuracy FROM epochs ORDER BY epoch") == [(1, 0.5), (2, 0.5)]
    assert read(tmp_path, "SELECT objectives FROM reports ORDER BY epoch") == [("[0.1]",), ("[0.2]",)]


def test_what_is_not_a_number_is_recorded_as_missing(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {})
        recorder.add("a", [row(1, nan)], [nan, 1.0])
        recorder.add("a", [row(2, inf)], [-inf, nan], -inf)
    assert read(tmp_path, "SELECT test_accuracy FROM epochs ORDER BY epoch") == [(None,), (inf,)]
    assert read(tmp_path, "SELECT objectives, scheduled FROM reports ORDER BY epoch") == [
        ("[null, 1.0]", None),
        ("[null, null]", -inf),
    ]


def test_trials_that_still_train_at_the_end_are_interrupted(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for number, trial in enumerate("abc"):
            recorder.start(trial, number, "c", {})
        recorder.end("a", "finished")
        recorder.end("b", "failed", "out of memory")
    assert read(tmp_path, "SELECT trial_id, status, error, ended >= started FROM trials") == [
        ("a", "finished", None, 1),
        ("b", "failed", "out of memory", 1),
        ("c", "interrupted", None, 1),
    ]


def test_the_tables_have_the_declared_columns_and_the_file_its_format(tmp_path: Path) -> None:
    with Recorder(tmp_path):
        pass
    names = [name for _, name, *_ in read(tmp_path, "PRAGMA table_info(epochs)")]
    assert names == [column.name for column in COLUMNS]
    assert read(tmp_path, "PRAGMA user_version") == [(FORMAT,)]
    assert [path.name for path in tmp_path.iterdir()] == [FILENAME]  # one plain file, readable wherever it is put


def test_updates_are_recorded_where_they_are_traced(tmp_path: Path) -> None:
    step = {"arm": "filtered", "epoch": 1, "step": 1, "raw_batches": 3, "samples_trained": 16}
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {})
        recorder.add("a", [row(1, 0.5)], [0.1], steps=[step, step | {"step": 2}])
        recorder.add("a", [row(2, 0.5)], [0.1], steps=[step | {"epoch": 2, "raw_batches": 4}])
    query = "SELECT trial_id, epoch, step, raw_batches, samples_trained, samples_kept FROM steps ORDER BY epoch, step"
    assert read(tmp_path, query) == [("a", 1, 1, 3, 16, None), ("a", 1, 2, 3, 16, None), ("a", 2, 1, 4, 16, None)]


def test_a_file_that_is_no_record_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / FILENAME).write_bytes(b"notes, not a database" * 100)
    with pytest.raises(RecordError, match=r"study\.sqlite cannot be written: file is not a database"):
        Recorder(tmp_path)
    assert (tmp_path / FILENAME).read_bytes() == b"notes, not a database" * 100


def test_a_record_of_a_version_that_lacks_columns_gets_them_and_keeps_its_rows(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.start("a", 0, "c", {})
        recorder.add("a", [row(1, 0.5)], [0.25])
    with sqlite3.connect(tmp_path / FILENAME) as connection:
        connection.execute("DROP TABLE columns")
        for column in ("samples_overflowed", "cumulative_samples_overflowed"):
            connection.execute(f"ALTER TABLE epochs DROP COLUMN {column}")
    with Recorder(tmp_path) as recorder:
        recorder.add("a", [row(2, 0.75) | {"samples_overflowed": 3}], [0.5])
        assert [one["samples_overflowed"] for one in recorder.rows("a")] == [None, 3]
    assert read(tmp_path, "SELECT epoch, test_accuracy, samples_overflowed FROM epochs ORDER BY epoch") == [
        (1, 0.5, None),
        (2, 0.75, 3),
    ]


def test_the_record_says_what_its_columns_are_and_those_of_own_metrics_among_them(tmp_path: Path) -> None:
    own = Column("test_ece", "float", "fraction", "calibration error", -1)
    with Recorder(tmp_path, Columns((own,))) as recorder:
        recorder.start("a", 0, "c", {})
        recorder.add("a", [row(1, 0.5) | {"test_ece": 0.125}], [0.25])
        assert recorder.rows("a")[0]["test_ece"] == 0.125
    assert load(tmp_path).columns == Columns((own,))
    said = {
        row[0]: row[1:]
        for row in read(tmp_path, "SELECT name, unit, direction FROM columns WHERE \"table\" = 'epochs'")
    }
    assert said["test_ece"] == ("fraction", -1)
    assert said.keys() == {column.name for column in (*COLUMNS, own)}
