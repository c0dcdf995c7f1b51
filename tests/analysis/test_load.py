import csv
import json
import os
import pickle
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.export import export
from analysis.load import TableError, config_keys, load
from analysis.report import write
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
        [
            *(f"{table}.{format}" for table in ("trials", "epochs", "pairs", "columns")),
            "manifest.json",
            "experiment.yaml",
        ]
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
    database(folder, [trial(0, SIDES)])
    statement = {
        "no table": "DROP TABLE epochs",
        "no column": "ALTER TABLE epochs DROP COLUMN test_accuracy",
    }.get(case)
    if statement:
        with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
            connection.execute(statement)
    return folder


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("nowhere", "nowhere is not there; give a study directory"),
        ("empty", "holds no study: neither study.sqlite"),
        ("half", r"epochs\.csv is missing beside the other table"),
        ("garbage parquet", r"trials\.parquet cannot be read: .*export the study again"),
        ("garbage sqlite", r"study\.sqlite cannot be read as an SQLite file"),
        ("no table", r"study\.sqlite has no table 'epochs'"),
        ("no column", r"table 'epochs' of .*study\.sqlite lacks the columns test_accuracy"),
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


def execute(folder, *statements):
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


NOT_JSON = "study.sqlite, table trials: trial trial1: the configuration is not JSON; left out"
CANNOT_STAND = "with something that cannot stand in its column"


@pytest.mark.parametrize(
    ("statement", "trials", "rows", "damage"),
    [
        ("UPDATE trials SET config = '{' WHERE number = 1", [0, 2], 8, [NOT_JSON]),
        ("UPDATE trials SET config = NULL WHERE number = 1", [0, 2], 8, [NOT_JSON]),
        ("UPDATE trials SET config = '[1]' WHERE number = 1", [0, 2], 8, [NOT_JSON]),
        (f"UPDATE trials SET config = '{'[' * 9999}' WHERE number = 1", [0, 2], 8, [NOT_JSON]),
        ("UPDATE trials SET config = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE number = 1", [0, 2], 8, [NOT_JSON]),
        ("""UPDATE trials SET config = '{"status": "x"}' WHERE number = 1""", [0, 2], 8, [NOT_JSON]),
        (
            "UPDATE trials SET config = '{'",
            [],
            0,
            ["study.sqlite, table trials: trials trial0, trial1, trial2: the configuration is not JSON; left out"],
        ),
        (
            "UPDATE trials SET status = 'finishfd' WHERE number = 1",
            [0, 2],
            8,
            ["study.sqlite, table trials: trial trial1: the status is unknown; left out"],
        ),
        (
            "UPDATE trials SET trial_id = NULL WHERE number = 1",
            [0, 2],
            8,
            [
                f"study.sqlite, table trials: 1 row {CANNOT_STAND} (trial_id); left out",
                "study.sqlite, table epochs: 4 rows of no known trial (trial1); left out",
            ],
        ),
        (
            "UPDATE trials SET trial_id = '..' WHERE number = 1",
            [0, 2],
            8,
            [
                "study.sqlite, table trials: trial ..: not a name that a trial can have; left out",
                "study.sqlite, table epochs: 4 rows of no known trial (trial1); left out",
            ],
        ),
        (
            "UPDATE trials SET number = 'one' WHERE number = 1",
            [0, 2],
            8,
            [f"study.sqlite, table trials: 1 row {CANNOT_STAND} (number); left out"],
        ),
        (
            "UPDATE epochs SET trial_id = 'ghost' WHERE trial_id = 'trial1' AND epoch = 1",
            [0, 1, 2],
            10,
            ["study.sqlite, table epochs: 2 rows of no known trial (ghost); left out"],
        ),
        (
            "UPDATE epochs SET steps = 'many', test_accuracy = x'00' WHERE trial_id = 'trial1' AND epoch = 1",
            [0, 1, 2],
            10,
            [f"study.sqlite, table epochs: 2 rows {CANNOT_STAND} (test_accuracy, steps); left out"],
        ),
        (
            "UPDATE epochs SET steps = 2.5 WHERE trial_id = 'trial1' AND epoch = 1 AND arm = 'filtered'",
            [0, 1, 2],
            11,
            [f"study.sqlite, table epochs: 1 row {CANNOT_STAND} (steps); left out"],
        ),
        (
            "UPDATE epochs SET epoch = -7 WHERE trial_id = 'trial1' AND epoch = 1",
            [0, 1, 2],
            10,
            [f"study.sqlite, table epochs: 2 rows {CANNOT_STAND} (epoch); left out"],
        ),
        (
            "UPDATE epochs SET arm = x'66' WHERE trial_id = 'trial1' AND epoch = 1 AND arm = 'filtered'",
            [0, 1, 2],
            11,
            [f"study.sqlite, table epochs: 1 row {CANNOT_STAND} (arm); left out"],
        ),
    ],
)
def test_a_damaged_row_costs_that_row_and_is_named(trial, database, tmp_path, statement, trials, rows, damage):
    folder = database(tmp_path, [trial(n, SIDES) for n in range(3)])
    whole = load(folder)
    assert whole.damage == ()
    execute(folder, statement)
    study = load(folder)
    assert list(study.damage) == damage
    assert study.trials["number"].tolist() == trials
    assert len(study.epochs) == rows
    kept = whole.epochs.merge(study.epochs[["trial_id", "arm", "epoch"]])
    pd.testing.assert_frame_equal(kept, study.epochs)


def test_of_many_damaged_trials_a_few_are_named(trial, database, tmp_path):
    folder = database(tmp_path, [trial(n, SIDES) for n in range(5)])
    execute(folder, "UPDATE trials SET config = '{'")
    assert "trials trial0, trial1, trial2 and 2 more: the configuration" in load(folder).damage[0]


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 9999])
def test_a_damaged_manifest_costs_the_manifest(trial, database, tmp_path, text):
    folder = database(tmp_path / "mine", [trial(0, SIDES)])
    (folder / "manifest.json").write_text(text)
    study = load(folder)
    assert (study.name, study.manifest, len(study.trials)) == ("mine", {}, 1)
    assert study.damage == ("manifest.json: is not a JSON object; left out",)


def test_an_experiment_that_is_not_text_costs_itself(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES)])
    (folder / "experiment.yaml").write_bytes(b"\xff")
    study = load(folder)
    assert study.experiment == ""
    assert study.damage[0].startswith("experiment.yaml: cannot be read: 'utf-8' codec")


def test_damaged_pages_cost_their_rows(trial, database, tmp_path):
    accuracies = [epoch / 50 for epoch in range(40)]
    folder = database(tmp_path, [trial(n, {"archetype": accuracies, "filtered": accuracies}) for n in range(20)])
    execute(folder, "PRAGMA journal_mode=DELETE")
    whole, file = load(folder), folder / "study.sqlite"
    content = bytearray(file.read_bytes())
    pages = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    leaves = [number for number, page in enumerate(pages) if page[0] == 0x0D and b'{"' not in page]  # of no trial
    rows = [number for number in leaves if pages[number].count(b"archetype") > 2]
    damaged = rows[len(rows) // 2]
    content[damaged * 4096 : (damaged + 1) * 4096] = bytes(4096)
    file.write_bytes(content)
    study = load(folder)
    missing = len(whole.epochs) - len(study.epochs)
    assert 0 < missing <= 40
    assert study.damage == (f"study.sqlite: {missing} rows of table epochs cannot be read",)
    pd.testing.assert_frame_equal(whole.epochs.merge(study.epochs[["trial_id", "arm", "epoch"]]), study.epochs)
    pd.testing.assert_frame_equal(whole.trials, study.trials)


def test_a_study_from_before_formats_were_numbered(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES)])
    execute(folder, "ALTER TABLE trials DROP COLUMN configuration", "PRAGMA user_version=0")
    study = load(folder)
    assert study.damage == ()
    assert study.trials["configuration"].isna().all()
    assert list(study.trials)[:4] == ["trial_id", "number", "configuration", "status"]
    export(study, tmp_path / "out", "csv")
    pd.testing.assert_frame_equal(load(tmp_path / "out").trials, study.trials)
    table = pd.read_csv(tmp_path / "out" / "trials.csv").drop(columns="configuration")
    table.to_csv(tmp_path / "out" / "trials.csv", index=False)
    pd.testing.assert_frame_equal(load(tmp_path / "out").trials, study.trials)


def test_a_study_of_a_newer_format_is_refused(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES)])
    execute(folder, "PRAGMA user_version=3")
    with pytest.raises(TableError, match=r"made by a newer filter-study \(format 3; this one reads up to 2\): upgrade"):
        load(folder)


def test_a_digest_of_digits_stays_text(trial, database, tmp_path):
    study = load(database(tmp_path / "study", [trial(0, SIDES, configuration="01234567")]))
    for format in ("csv", "parquet"):
        export(study, tmp_path / format, format)
        assert load(tmp_path / format).trials["configuration"].tolist() == ["01234567"]


@pytest.mark.parametrize(
    ("old", "new", "damage"),
    [
        (",", "", "1 line cannot be read; left out"),
        (",", ",,", "1 line cannot be read; left out"),
        ("trial0", "ghost", "1 row of no known trial (ghost); left out"),
        ("trial0", "", f"1 row {CANNOT_STAND} (trial_id); left out"),
        (",0.12", ",0.1z", f"1 row {CANNOT_STAND} (train_accuracy); left out"),
    ],
)
def test_a_damaged_line_of_an_export_costs_that_line(trial, study, tmp_path, old, new, damage):
    export(study(trial(0, SIDES), trial(1, SIDES)), tmp_path, "csv")
    file = tmp_path / "epochs.csv"
    lines = file.read_text().splitlines()
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new, 1)
    file.write_text("\n".join([*lines, ""]))
    again = load(tmp_path)
    assert again.damage == (f"epochs.csv: {damage}",)
    assert (len(again.trials), len(again.epochs)) == (2, 7)


def test_a_trial_that_stands_twice_in_an_export_counts_once(trial, study, tmp_path):
    export(study(trial(0, SIDES), trial(1, SIDES)), tmp_path, "csv")
    file = tmp_path / "trials.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")
    again = load(tmp_path)
    assert again.trials["number"].tolist() == [0, 1]
    assert again.damage == ("trials.csv: trial trial1: stands there twice; the first counts, the other is; left out",)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


PICKLES = (
    *("ray/tuner.pkl", "ray/trainable.pkl", "ray/searcher-state-1.pkl", "ray/searcher.pkl", "ray/scheduler.pkl"),
    *("ray/search_gen_state-1.json", "ray/experiment_state-1.json", "ray/0000-a/params.pkl", "ray/0000-a/error.pkl"),
    *("ray/0000-a/checkpoint_000001/.tune_metadata", "ray/0000-a/checkpoint_000001/class_trainable_data"),
    *("optuna.pkl", "study.pkl", "sampler.pkl", "checkpoints/0000-a/1.pt", "tables/trials.pkl", "wandb/run.pkl"),
    *("confirmations/one/study.pkl", "trials.pkl", "epochs.pkl", "manifest.pkl"),
)


@pytest.mark.slow
def test_nothing_is_ever_unpickled(trial, database, tmp_path):
    mark, bomb = tmp_path / "unpickled", pickle.dumps(Bomb(tmp_path / "unpickled"))
    pickle.loads(bomb)
    assert mark.exists()
    mark.unlink()
    folder = database(tmp_path / "study", [trial(0, SIDES), trial(1, SIDES)])
    for name in PICKLES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bomb)
    execute(folder, "CREATE TABLE pickled (object BLOB)", "UPDATE epochs SET test_accuracy = x'80' WHERE epoch = 1")
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        connection.execute("INSERT INTO pickled VALUES (?)", (bomb,))
        connection.execute("UPDATE trials SET config = ? WHERE number = 1", (bomb,))
    study = load(folder)
    assert study.trials["number"].tolist() == [0]
    write(study, folder)
    export(study, folder / "tables", "parquet")
    (folder / "study.sqlite").write_bytes(bomb * 100)
    with pytest.raises(TableError):
        load(folder)
    assert not mark.exists()


def rewrite(file: Path, encoding: str = "utf-8", **form: Any) -> None:
    """Write a CSV file of ours again as another program would."""
    table = pd.read_csv(file, dtype="string", keep_default_na=False)
    if form.get("decimal") == ",":
        table = table.apply(lambda cells: cells.str.replace(r"^(-?\d+)\.(\d+)$", r"\1,\2", regex=True))
    for name in [name for name in table if set(table[name]) <= {"True", "False", ""}]:
        table[name] = table[name].str.upper()
    text = table.to_csv(index=False, sep=form.get("sep", ","), quoting=form.get("quoting", 0), lineterminator="\r\n")
    file.write_bytes((form.get("head", "") + text).encode(encoding))


EXCEL = {
    "a mark of UTF-8": {"encoding": "utf-8-sig"},
    "semicolons": {"sep": ";"},
    "semicolons and decimal commas": {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"},
    "tabs in UTF-16": {"sep": "\t", "encoding": "utf-16"},
    "everything in quotes": {"quoting": csv.QUOTE_ALL},
    "a line for Excel": {"sep": ";", "head": "sep=;\r\n"},
}


@pytest.mark.parametrize("form", EXCEL.values(), ids=EXCEL)
def test_tables_that_a_spreadsheet_has_saved_read_back_unchanged(study, trial, tmp_path, form):
    config = {"optimizer.amsgrad": True, "optimizer.lr": 1e-05, "dataset.samples_per_class": 20}
    ours = study(trial(0, SIDES), trial(1, SIDES, config=config, error="a, b; c"))
    export(ours, tmp_path, "csv")
    for name in ("trials", "epochs"):
        rewrite(tmp_path / f"{name}.csv", **form)
    again = load(tmp_path)
    assert again.damage == ()
    pd.testing.assert_frame_equal(again.trials, ours.trials)
    pd.testing.assert_frame_equal(again.epochs, ours.epochs)


def test_decimal_commas_and_points_in_one_file_are_not_guessed_at(mixed, tmp_path):
    export(mixed, tmp_path, "csv")
    rewrite(tmp_path / "epochs.csv", sep=";", decimal=",")
    text = (tmp_path / "epochs.csv").read_text()
    (tmp_path / "epochs.csv").write_text(text.replace("0,6;", "0.6;", 1))
    with pytest.raises(TableError, match=r"decimal comma \(\w+: 0,\d+\) and with a decimal point \(\w+: 0\.6\)"):
        load(tmp_path)


def test_what_a_file_without_the_columns_was_taken_for_is_said(mixed, tmp_path):
    export(mixed, tmp_path, "csv")
    (tmp_path / "trials.csv").write_text("a;b;c\n1;2;3\n")
    with pytest.raises(TableError, match=r"lacks the columns trial_id, .* \(read with semicolons between columns\)"):
        load(tmp_path)


def test_the_table_that_is_named_is_the_one_that_is_read(trial, database, tmp_path):
    folder = database(tmp_path, [trial(0, SIDES), trial(1, SIDES)])
    for form in ("parquet", "csv"):
        export(load(folder), folder, form)
    lines = (folder / "trials.csv").read_text().splitlines()
    (folder / "trials.csv").write_text("\n".join(lines[:2]))
    chosen = load(folder / "trials.csv")
    assert chosen.trials["number"].tolist() == [0]
    assert chosen.epochs["trial_id"].unique().tolist() == ["trial0"]
    assert chosen.damage == ()
    assert len(load(folder / "trials.parquet").trials) == 2
    (folder / "study.sqlite").unlink()
    assert len(load(folder).trials) == 2  # a folder's Parquet comes first
    (folder / "trials.csv").rename(folder / "filtered.csv")
    with pytest.raises(
        TableError, match=r"filtered.csv is no table of a study; a table is named trials, epochs, steps"
    ):
        load(folder / "filtered.csv")


@pytest.mark.parametrize("word", ["NaN", "NA", "null", ""])
def test_words_of_other_programs_for_a_missing_number(mixed, tmp_path, word):
    export(mixed, tmp_path, "csv")
    for name in ("trials", "epochs"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        text = [column for column in table if table[column].dtype != "float64"]
        table.fillna(dict.fromkeys(text, "")).to_csv(tmp_path / f"{name}.csv", index=False, na_rep=word)
    again = load(tmp_path)
    assert again.damage == ()
    assert again.trials["optimizer.lr"].dtype == "float64"
    assert again.epochs["train_mean_loss"].isna().sum() == mixed.epochs["train_mean_loss"].isna().sum()
    assert again.trials["objective"].isna().all()
