"""Metrics that a study declares itself: this program knows nothing of them but what the study says."""

import sqlite3
from contextlib import closing

import pandas as pd
import pytest

from analysis import report
from analysis.answer import answer, written
from analysis.export import export
from analysis.load import TableError, load
from analysis.pairs import arm_rows, last_gap, pair
from analysis.sources import read
from analysis.tuning import standing

ECE = {"test_ece": ("fraction", -1, "calibration error"), "test_skill": ("points", 1, ""), "test_count": ("", 0, "")}


def declaring(folder, declared, values):
    """The study in ``folder`` with further columns: what they are, and the value of each arm at every epoch."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        connection.execute(
            'CREATE TABLE columns ("table" TEXT, name TEXT, type TEXT, unit TEXT, direction INTEGER, meaning TEXT)'
        )
        for name, (unit, direction, meaning) in declared.items():
            row = ("epochs", name, "float", unit, direction, meaning)
            connection.execute("INSERT INTO columns VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.execute(f"ALTER TABLE epochs ADD COLUMN {name} REAL")
            for arm, value in values[name].items():
                connection.execute(f"UPDATE epochs SET {name} = ? WHERE arm = ?", (value, arm))
    return folder


@pytest.fixture
def calibrated(trial, database, tmp_path):
    folder = database(tmp_path / "mine", [trial(n, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]}) for n in (0, 1)])
    values = {
        "test_ece": {"archetype": 0.2, "filtered": 0.05},
        "test_skill": {"archetype": 3.0, "filtered": 1.0},
        "test_count": {"archetype": 1.0, "filtered": 1.0},
    }
    return declaring(folder, ECE, values)


def test_a_metric_is_paired_by_the_direction_that_the_study_declares(calibrated):
    study = load(calibrated)
    frame = pair(study).frame
    assert frame["gap/test_ece"].tolist() == pytest.approx([0.15, 0.15])
    assert frame["gap/test_skill"].tolist() == [-2.0, -2.0]
    assert "gap/test_count" not in frame
    assert last_gap(study, "trial0", "test_ece") == (pytest.approx(0.15), 1)
    assert arm_rows(frame)["test_ece"].tolist() == [0.2, 0.05, 0.2, 0.05]
    assert standing(frame, "test_ece", study.columns).tolist()[0] == "won"


def test_a_side_that_diverged_has_lost_in_it(trial, database, tmp_path):
    trials = [
        trial(
            0,
            {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]},
            status="diverged",
            changes={("filtered", 1): {"train_mean_loss": None}},
        )
    ]
    values = {"test_ece": {"archetype": 0.2, "filtered": None}}
    folder = declaring(database(tmp_path, trials), {"test_ece": ECE["test_ece"]}, values)
    assert pair(load(folder)).frame["gap/test_ece"].tolist() == [float("-inf")]


def test_it_is_answered_for_with_its_unit(calibrated):
    study = load(calibrated)
    text = written(answer(study), "text")
    assert "+15.00 pp" in text
    assert "−2.00 points" in text
    assert "−2.00 points" in written(answer(study, ["test_skill"]), "text").splitlines()[0]
    with pytest.raises(TableError, match=r"test_count has no gap; one of .*test_ece, test_skill"):
        answer(study, ["test_count"])


def test_the_report_shows_it(calibrated, tmp_path):
    page = report.write(load(calibrated), tmp_path / "out").read_text("utf-8")
    assert "test ece" in page
    assert "points" in page
    assert "test skill (points) along" in page  # its curve


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_an_export_says_what_its_columns_are(calibrated, tmp_path, format):
    study = load(calibrated)
    export(study, tmp_path / "out", format)
    again = load(tmp_path / "out")
    assert again.columns == study.columns
    pd.testing.assert_frame_equal(again.epochs, study.epochs)
    alone = load(tmp_path / "out" / f"pairs.{format}")
    assert pair(alone).frame["gap/test_ece"].tolist() == pytest.approx([0.15, 0.15])
    (tmp_path / "out" / f"columns.{format}").unlink()
    assert load(tmp_path / "out").columns.own == ()  # as in an export of an earlier version


def test_of_several_studies_each_has_its_own_metrics_unless_they_contradict(calibrated, trial, database, tmp_path):
    plain = database(tmp_path / "plain", [trial(5, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]})])
    together = read([str(calibrated), str(plain)])
    assert [column.name for column in together.columns.own] == list(ECE)
    assert pair(together).frame["gap/test_ece"].notna().tolist() == [True, True, False]
    other = database(tmp_path / "other", [trial(0, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]})])
    declaring(other, {"test_ece": ("fraction", 1, "")}, {"test_ece": {"archetype": 0.2, "filtered": 0.1}})
    with pytest.raises(TableError, match=r"test_ece is not the same metric in mine .* and in other"):
        read([str(calibrated), str(other)])


def test_a_declaration_that_cannot_be_is_named_and_left_out(calibrated):
    with closing(sqlite3.connect(calibrated / "study.sqlite")) as connection, connection:
        connection.execute("UPDATE columns SET direction = 7 WHERE name = 'test_ece'")
        connection.execute("UPDATE columns SET direction = 1 WHERE name = 'test_count'")
    study = load(calibrated)
    assert [column.name for column in study.columns.own] == ["test_skill", "test_count"]
    assert study.damage == (
        "study.sqlite, table columns: column test_ece: its direction is 7, not 1, -1 or 0; left out",
    )


def test_a_study_of_a_version_that_lacks_columns_loads(trial, database, tmp_path, monkeypatch):
    folder = database(tmp_path, [trial(0, {"archetype": [0.1, 0.6], "filtered": [0.1, 0.7]})])
    monkeypatch.setattr("analysis.load.LATER", frozenset({"samples_overflowed", "configuration"}))
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        connection.execute("ALTER TABLE epochs DROP COLUMN samples_overflowed")
    study = load(folder)
    assert study.epochs["samples_overflowed"].isna().all()
    assert len(pair(study).frame) == 1
