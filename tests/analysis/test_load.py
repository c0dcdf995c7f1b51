import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import TableError, config_keys, export, load
from trainables.records import COLUMNS

SIDES = {"archetype": [0.1, 0.5], "filtered": [0.1, 0.6]}


def test_a_study_directory(trial, database, tmp_path):
    second = trial(1, SIDES, config={"optimizer.name": "Adam", "optimizer.amsgrad": True, "dataset.classes": 5})
    folder = database(tmp_path / "quick", [second, trial(0, SIDES)])
    (folder / "manifest.json").write_text('{"seeds": {"search": 3}}')
    (folder / "experiment.yaml").write_text("epochs: 1\n")
    study = load(folder)
    assert study.name == "quick"
    assert study.manifest == {"seeds": {"search": 3}}
    assert study.experiment == "epochs: 1\n"
    assert study.trials["number"].tolist() == [0, 1]
    assert study.trials["optimizer.name"].tolist() == ["SGD", "Adam"]
    assert study.trials["optimizer.amsgrad"].dtype == "boolean"
    assert study.trials["dataset.classes"].tolist() == [pd.NA, 5]
    assert study.trials["optimizer.lr"].dtype == "float64"
    assert "arms.filtered.raw_batch_size" not in study.trials  # no trial has a value
    assert study.epochs["epoch"].dtype == "Int64"
    assert study.epochs["arm"].dtype == "string"
    assert list(study.epochs) == [column.name for column in COLUMNS]
    assert study.epochs["test_accuracy"].tolist() == [0.1, 0.1, 0.5, 0.6] * 2


def test_the_manifest_names_the_study(trial, database, tmp_path):
    folder = database(tmp_path / "20260101", [trial(0, SIDES)])
    (folder / "manifest.json").write_text('{"name": "quickstart"}')
    assert load(folder).name == "quickstart"


def test_a_missing_value_is_not_a_number(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES, changes={("filtered", 1): {"test_mean_loss": None, "steps": None}})])
    last = load(folder).epochs.iloc[-1]
    assert last["arm"] == "filtered"
    assert pd.isna(last["test_mean_loss"])
    assert last["steps"] is pd.NA


def test_a_study_is_read_while_it_is_written(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES)])
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET status = 'failed'")
        assert load(folder).trials["status"].tolist() == ["finished"]
        writer.execute("COMMIT")
        assert load(folder).trials["status"].tolist() == ["failed"]


def test_a_finished_study_on_a_read_only_medium(trial, database, tmp_path, monkeypatch):
    folder = database(tmp_path, [trial(0, SIDES)])
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sorted(file.name for file in folder.iterdir())
    assert len(load(folder).trials) == 1
    assert sorted(file.name for file in folder.iterdir()) == before


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_an_export_reads_back_unchanged(mixed, tmp_path, format):
    study = replace(mixed, manifest={"git": {"dirty": False}}, experiment="a: 1\r\nb: 'é'\n")
    files = export(study, tmp_path / "out", format)
    assert sorted(file.name for file in files) == sorted(
        [f"trials.{format}", f"epochs.{format}", "manifest.json", "experiment.yaml"]
    )
    assert sorted(files) == sorted((tmp_path / "out").iterdir())  # nothing half-written is left
    again = load(tmp_path / "out")
    pd.testing.assert_frame_equal(again.trials, study.trials)
    pd.testing.assert_frame_equal(again.epochs, study.epochs)
    assert again.manifest == study.manifest
    assert again.experiment == study.experiment


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    configs=st.lists(st.dictionaries(st.sampled_from(["a.x", "b", "c.y.z"]), values), min_size=1, max_size=3),
    loss=st.one_of(st.none(), st.floats(allow_nan=False)),
    format=st.sampled_from(["parquet", "csv"]),
)
def test_any_configuration_and_loss_survive_an_export(study, trial, tmp_path_factory, configs, loss, format):
    changes = {("filtered", 1): {"test_worst_loss": loss}}
    before = study(*(trial(n, SIDES, config=config, changes=changes) for n, config in enumerate(configs)))
    folder = tmp_path_factory.mktemp("export")
    export(before, folder, format)
    after = load(folder)
    pd.testing.assert_frame_equal(after.trials, before.trials, check_exact=True)
    pd.testing.assert_frame_equal(after.epochs, before.epochs, check_exact=True)


def test_configuration_keys_are_what_trials_have_besides(mixed):
    assert {"optimizer.lr", "baseline", "epochs"} <= set(config_keys(mixed.trials))
    assert not {"trial_id", "number", "status", "error"} & set(config_keys(mixed.trials))


def test_an_unknown_format_is_named(mixed, tmp_path):
    with pytest.raises(TableError, match="'xlsx' is unknown; use parquet or csv"):
        export(mixed, tmp_path, "xlsx")


def test_a_folder_that_cannot_be_written_is_named(mixed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match=r"cannot write to .*file"):
        export(mixed, tmp_path / "file", "csv")


def _folder(tmp_path: Path, case: str, trial, database) -> Path:
    """A folder that cannot be loaded, in one of several ways."""
    folder = tmp_path / case
    if case == "nowhere":
        return folder
    if case == "empty":
        folder.mkdir()
        return folder
    if case == "half":
        folder.mkdir()
        (folder / "trials.csv").write_text("trial_id\n")
        return folder
    if case == "garbage parquet":
        folder.mkdir()
        for name in ("trials", "epochs"):
            (folder / f"{name}.parquet").write_text("not parquet")
        return folder
    if case == "garbage sqlite":
        folder.mkdir()
        (folder / "study.sqlite").write_text("not a database, but long enough to be taken for one" * 40)
        return folder
    if case == "clash":
        return database(folder, [trial(0, SIDES, config={"status": "x"})])
    database(folder, [trial(0, SIDES)])
    statement = {
        "no table": "DROP TABLE epochs",
        "no column": "ALTER TABLE epochs DROP COLUMN test_accuracy",
        "bad config": "UPDATE trials SET config = '{'",
        "bad number": "UPDATE epochs SET steps = 'many'",
    }.get(case)
    if statement:
        with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
            connection.execute(statement)
    if case == "bad manifest":
        (folder / "manifest.json").write_text("[1]")
    return folder


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("nowhere", "nowhere is not a folder; give a study directory"),
        ("empty", "holds no study: neither study.sqlite"),
        ("half", r"epochs\.csv is missing beside the other table"),
        ("garbage parquet", r"trials\.parquet cannot be read: .*export the study again"),
        ("garbage sqlite", r"study\.sqlite cannot be read as an SQLite file"),
        ("no table", r"study\.sqlite has no table 'epochs'"),
        ("no column", r"table 'epochs' of .*study\.sqlite lacks the columns test_accuracy"),
        ("bad config", "the config of trial trial0 is not JSON"),
        ("bad number", "column 'steps' holds something that is not of type int"),
        ("bad manifest", r"manifest\.json is not a JSON object"),
        ("clash", "status is both a configuration key and a column"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_remedy(tmp_path, trial, database, case, message):
    with pytest.raises(TableError, match=message):
        load(_folder(tmp_path, case, trial, database))


def test_a_column_that_an_export_lacks_is_named(mixed, tmp_path):
    export(mixed, tmp_path, "csv")
    table = pd.read_csv(tmp_path / "trials.csv").drop(columns="status")
    table.to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(TableError, match=r"trials\.csv lacks the columns status"):
        load(tmp_path)


def test_the_config_stays_what_the_json_says(trial, database, tmp_path):
    made = trial(0, SIDES)
    written = json.loads(made["row"]["config"])
    loaded = load(database(tmp_path, [made])).trials.iloc[0]
    assert {key: loaded[key] for key in written if written[key] is not None} == {
        key: value for key, value in written.items() if value is not None
    }
