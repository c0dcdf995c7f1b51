"""A study's tables as data frames, from its live SQLite file or from an export.

A damaged line or row costs that line or row, which ``Study.damage`` names, and not the study. Nothing is unpickled.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import spreadsheet
from analysis.database import DATABASE, TableError, columns, counted, reading
from analysis.names import similar
from analysis.outcomes import DIVERGED, MEASURED, OUT_OF_MEMORY
from trainables import old_keys
from trainables.records import (
    BUILT_IN,
    COLUMNS,
    DECLARATIONS,
    DECLARED_IN,
    SIDES,
    SPLITS,
    STATUSES,
    STEP_COLUMNS,
    TRIAL_COLUMNS,
    Column,
    Columns,
    out_of_memory,
)

__all__ = ["DATABASE", "Study", "TableError", "config_keys", "load"]

MANIFEST = "manifest.json"
EXPERIMENT = "experiment.yaml"
DTYPES: Mapping[str, Any] = {"int": "Int64", "float": "float64", "str": "string"}

NEEDED = ("trial_id", "number", "status", "arm", "epoch", "step")
"""Columns in which every row has a value; numbers there are at least 0."""

TABLES: Mapping[str, Sequence[Column]] = {"trials": TRIAL_COLUMNS, "epochs": COLUMNS, "steps": STEP_COLUMNS}

FORMS = (".parquet", ".csv")
"""What the name of an exported table ends in; of a folder with both, Parquet is read."""

TEXTS = frozenset(column.name for table in (*TABLES.values(), DECLARATIONS) for column in table if column.type == "str")
"""Columns that hold text."""

NO_NUMBER = frozenset({"nan", "na", "n/a", "null"})
"""Words that stand for a missing value where all other values are numbers, as other programs write them."""

ADDED = (
    "samples_backward",
    "auxiliary_compute",
    "auxiliary_seconds",
    "select_seconds",
    "reestimate_seconds",
    "reference_seconds",
)
LATER = frozenset({"configuration", "proposed_by", "passes", *ADDED, *(f"cumulative_{name}" for name in ADDED)})
"""Columns that tables of older versions lack."""

TRIAL_ID = r"\w[\w.-]{0,99}"
"""What can be a trial's id; it names files elsewhere."""

UNREADABLE = "\ufffd"
"""What stands where text is not UTF-8."""

CHUNK = 50_000
"""Rows that are read at a time."""

NAMED = 3
"""So many trials are named of those that share a fault."""


@dataclass(frozen=True)
class Study:
    """What a study left behind.

    Attributes:
        name: the manifest's ``name``, else the folder's.
        trials: a row per trial: ``records.TRIAL_COLUMNS`` and a column per dotted configuration key, by number.
        epochs: a row per (trial, arm, epoch): ``records.COLUMNS``, in that order of keys.
        manifest: versions, hardware, seeds and the like; empty where there is none.
        experiment: the resolved experiment file, word for word; empty where there is none.
        path: the folder it was read from.
        steps: a row per (trial, arm, epoch, step): ``records.STEP_COLUMNS``; empty where updates were not traced.
        damage: what could not be read and is left out, a line each.
        columns: what the columns of ``epochs`` are: those of this program, and those that the study declares.
    """

    name: str
    trials: pd.DataFrame
    epochs: pd.DataFrame
    manifest: Mapping[str, Any]
    experiment: str
    path: Path
    steps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[c.name for c in STEP_COLUMNS]))
    damage: tuple[str, ...] = ()
    columns: Columns = BUILT_IN


class _Tables(NamedTuple):
    """The tables of a study, and what the columns of ``epochs`` are."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    steps: pd.DataFrame
    columns: Columns


def load(path: Path) -> Study:
    """Read a study; nothing is written, and the study may still be running.

    Args:
        path: the study directory or export folder, or one of the tables in it: then this file is read, and those of the
            same form beside it. Of a table ``trials`` from which rows were taken out, the other trials are left out. Of
            a table ``pairs`` alone, only the two epochs of each comparison that it holds are known.

    Raises:
        TableError: there is no study, or a file cannot be read at all, or lacks a table or column.
    """
    path = Path(path)
    damage: list[str] = []
    if path.is_dir():
        folder = path
        read = _read_database if (folder / DATABASE).is_file() else _read_export
        trials, epochs, steps, columns = read(folder, damage)
    elif not path.is_file():
        hint = similar(path) or "; give a study directory, an export folder or one of its tables"
        raise TableError(f"{path} is not there{hint}")
    else:
        folder = path.parent
        trials, epochs, steps, columns = _read_named(path, damage)
    manifest = _read_manifest(folder / MANIFEST, damage)
    name = manifest.get("name")
    return Study(
        name=name if isinstance(name, str) and name else folder.resolve().name,
        trials=trials.sort_values(["number", "trial_id"], ignore_index=True),
        epochs=_in_order(epochs, ["trial_id", "epoch", "arm"]),
        manifest=manifest,
        experiment=_read_text(folder / EXPERIMENT, damage),
        path=folder,
        steps=_in_order(steps, ["trial_id", "epoch", "arm", "step"]),
        damage=tuple(damage),
        columns=columns,
    )


def config_keys(trials: pd.DataFrame) -> list[str]:
    """The columns of ``Study.trials`` that are configuration keys."""
    own = {column.name for column in TRIAL_COLUMNS}
    return [name for name in trials.columns if name not in own]


def _read_database(folder: Path, damage: list[str]) -> _Tables:
    """The tables trials, epochs and steps; what of them is lost is added to ``damage``, here and below."""
    file = folder / DATABASE
    names = {table: [column.name for column in declared] for table, declared in TABLES.items()}
    with reading(file) as (connection, lost):
        damage += lost
        declared = BUILT_IN
        if columns(connection, DECLARED_IN):
            listed = [column.name for column in DECLARATIONS]
            declared = _declared(_select(connection, file, DECLARED_IN, listed), f"{file.name}, table columns", damage)
        names["epochs"] = [column.name for column in declared.all]
        trials = _select(connection, file, "trials", [*names["trials"], "config"])
        epochs = _select(connection, file, "epochs", names["epochs"])
        traced = columns(connection, "steps")
        steps = _select(connection, file, "steps", names["steps"]) if traced else pd.DataFrame(columns=names["steps"])
    trials["config"] = pd.Series(map(_parse_config, trials["config"]), index=trials.index, dtype="object")
    where = {table: f"{file.name}, table {table}" for table in TABLES}
    return _sound(_Tables(trials, epochs, steps, declared), where, damage)


def _declared(rows: pd.DataFrame, where: str, damage: list[str]) -> Columns:
    """This program's columns, and those that the study declares for ``epochs`` and this program does not know."""
    own = []
    for row in rows[rows["table"] == "epochs"].itertuples(index=False):
        name, unit, meaning = (
            str(value) if isinstance(value, str) else "" for value in (row.name, row.unit, row.meaning)
        )
        if name in BUILT_IN.by_name or not name.startswith(tuple(f"{split}_" for split in SPLITS)):
            continue
        try:
            direction = {-1: -1, 0: 0, 1: 1}[int(float(str(row.direction)))]
            own.append(Column(name, "float", unit, meaning, direction))  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, OverflowError):
            damage.append(f"{where}: column {name}: its direction is {row.direction!r}, not 1, -1 or 0; left out")
    try:
        return Columns(tuple(own))
    except ValueError as error:
        damage.append(f"{where}: {error}; left out")
        return BUILT_IN


def _select(connection: sqlite3.Connection, file: Path, table: str, names: Sequence[str]) -> pd.DataFrame:
    present = columns(connection, table)
    if not present:
        raise TableError(f"{file} has no table {table!r}; is it the {DATABASE} of a study?")
    _require(names, present, f"table {table!r} of {file}")
    listed = ", ".join(f'"{name}"' if name in present else f"NULL AS {name}" for name in names)
    cursor = connection.execute(f"SELECT {listed} FROM {table}")
    chunks = [_columns(rows, names) for rows in iter(lambda: cursor.fetchmany(CHUNK), [])]
    return pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame(columns=list(names), dtype="object")


def _columns(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame; a column of nothing but numbers is one of floats, which takes a fraction of the memory."""
    made: dict[str, Any] = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        cells = np.empty(len(values), dtype="object")
        cells[:] = values
        plain = set(map(type, values)) <= {float, type(None)}
        made[name] = cells.astype("float64") if plain else cells
    return pd.DataFrame(made)


def _parse_config(text: Any) -> dict[str, Any] | None:
    """The configuration that ``text`` holds as JSON; None where it holds none, or a key that is a column's name."""
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    own = {column.name for column in TRIAL_COLUMNS}
    whole = isinstance(config, dict) and own.isdisjoint(config) and UNREADABLE not in text
    return old_keys.dotted(config) if whole else None


def _read_named(file: Path, damage: list[str]) -> _Tables:
    """The tables of which ``file`` is one; the others lie beside it and are of its form."""
    if file.name == DATABASE:
        return _read_database(file.parent, damage)
    form = file.suffix.lower()
    if form not in FORMS or file.stem not in (*TABLES, "pairs"):
        raise TableError(
            f"{file} is no table of a study; a table is named {', '.join(TABLES)} or pairs and ends in "
            f"{' or '.join(FORMS)}; or give a study directory or an export folder"
        )
    if file.stem == "pairs":
        return _read_pairs(file, damage)
    files = {table: file.with_name(f"{table}{file.suffix}") for table in TABLES}
    return _read_files(files, damage, chosen=file.stem == "trials")


def _read_export(folder: Path, damage: list[str]) -> _Tables:
    for form in FORMS:
        files = {table: folder / f"{table}{form}" for table in TABLES}
        if files["trials"].is_file() or files["epochs"].is_file():
            return _read_files(files, damage)
    raise TableError(
        f"{folder} holds no study: neither {DATABASE}, nor trials.parquet and epochs.parquet, nor trials.csv and "
        "epochs.csv; give a study directory or an export folder"
    )


def _read_files(files: Mapping[str, Path], damage: list[str], chosen: bool = False) -> _Tables:
    """The tables in ``files``; with ``chosen``, of the trials that the table trials has left, and no more is missed."""
    for table in ("trials", "epochs"):
        if not files[table].is_file():
            raise TableError(f"{files[table]} is missing beside the other table; export the study again")
    read = {
        table: _read_table(file, [column.name for column in TABLES[table]], damage)
        for table, file in files.items()
        if table != "steps" or file.is_file()
    }
    read.setdefault("steps", pd.DataFrame(columns=[column.name for column in STEP_COLUMNS]))
    declared = _read_declared(files["epochs"], damage)
    lacking = [column.name for column in declared.all if column.name not in read["epochs"]]
    read["epochs"] = read["epochs"].reindex(columns=[*read["epochs"].columns, *lacking])
    if chosen:
        for table in ("epochs", "steps"):
            read[table] = read[table][read[table]["trial_id"].isin(read["trials"]["trial_id"])]
    own = [column.name for column in TRIAL_COLUMNS]
    config = read["trials"].drop(columns=own, errors="ignore")
    trials = read["trials"].reindex(columns=own)
    trials["config"] = _mappings(config)
    where = {table: file.name for table, file in files.items()}
    return _sound(_Tables(trials, read["epochs"], read["steps"], declared), where, damage)


def _read_declared(beside: Path, damage: list[str]) -> Columns:
    """What the table ``columns`` beside another declares; exports of earlier versions have none."""
    file = beside.with_name(f"{DECLARED_IN}{beside.suffix}")
    if not file.is_file():
        return BUILT_IN
    names = [column.name for column in DECLARATIONS]
    return _declared(_read_table(file, names, damage, key="table"), file.name, damage)


def _read_pairs(file: Path, damage: list[str]) -> _Tables:
    """Trials that were compared, and an epoch of either side of each."""
    needed = ["trial_id", "number", "epochs", *(f"{side}{of}" for side in SIDES for of in ("", "/epoch"))]
    pairs = _read_table(file, needed, damage)
    measured = ("baseline/", "treatment/", "gap/")
    own = {"trial_id", "number", "configuration", "outcome", "baseline_learned"}
    config = pairs[[name for name in pairs.columns if name not in own and not name.startswith(measured)]]
    outcome = pairs.get("outcome", pd.Series(MEASURED, pairs.index)).astype("object")
    ends = {"status": outcome.map(_status), "error": None}
    trials = pd.DataFrame(ends, index=pairs.index).join(pairs[["trial_id", "number", "configuration"]])
    trials = trials.reindex(columns=[column.name for column in TRIAL_COLUMNS])
    trials["config"] = _mappings(config)
    declared = _read_declared(file, damage)
    columns = [column.name for column in declared.all]
    epochs = []
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        rows = pairs[[name for name in pairs.columns if name.startswith(f"{side}/")]].astype("object")
        rows = rows.rename(columns=lambda name: name.partition("/")[2]).assign(trial_id=pairs["trial_id"])
        lost = outcome == f"{side} {DIVERGED}"  # a row that has an accuracy and no loss stands for what has no values
        ended = {"epoch": rows["epoch"].mask(lost, pairs[f"{other}/epoch"]), "arm": pairs[side]}
        rows = rows.assign(train_accuracy=rows["train_accuracy"].mask(lost, 0.0), **ended).reindex(columns=columns)
        epochs.append(rows[rows["epoch"].notna()])
        full = outcome == f"{side} {OUT_OF_MEMORY}"
        trials["error"] = trials["error"].mask(full, pairs[side].map(out_of_memory, na_action="ignore"))
    none = pd.DataFrame(columns=[column.name for column in STEP_COLUMNS])
    read = _Tables(trials, pd.concat(epochs, ignore_index=True), none, declared)
    return _sound(read, dict.fromkeys(TABLES, file.name), damage)


def _status(outcome: str) -> str:
    """The status of a comparison with this outcome."""
    fate = outcome.partition(" ")[2]
    return {DIVERGED: "diverged", OUT_OF_MEMORY: "failed"}.get(fate, "finished")


def _mappings(config: pd.DataFrame) -> pd.Series[Any]:
    """Each row as a mapping."""
    rows = config.itertuples(index=False, name=None)
    values = [old_keys.dotted(dict(zip(config.columns, row, strict=True))) for row in rows]
    return pd.Series(values, index=config.index, dtype="object")


def _read_table(file: Path, needed: Sequence[str], damage: list[str], key: str = "trial_id") -> pd.DataFrame:
    """The table in ``file``, which has the columns ``needed``; of CSV, every value as text."""
    try:
        if file.suffix.lower() == ".parquet":
            table, form = pd.read_parquet(file), ""
        else:
            table, form, lost = spreadsheet.read(file, key, TEXTS)
            form = f" ({form})"
            if lost:
                damage.append(f"{file.name}: {counted(lost, 'line')} cannot be read; left out")
    except TableError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own errors are among these
        raise TableError(f"{file} cannot be read: {error}; export the study again") from error
    _require(needed, [str(name) for name in table.columns], file, form)
    return table


def _read_manifest(file: Path, damage: list[str]) -> dict[str, Any]:
    text = _read_text(file, damage)
    try:
        manifest = json.loads(text or "{}")
    except (ValueError, RecursionError):
        manifest = None
    if isinstance(manifest, dict):
        return manifest
    damage.append(f"{file.name}: is not a JSON object; left out")
    return {}


def _read_text(file: Path, damage: list[str]) -> str:
    if not file.exists():
        return ""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        damage.append(f"{file.name}: cannot be read: {error}; left out")
        return ""


def _require(names: Iterable[str], present: Iterable[str], where: str | Path, form: str = "") -> None:
    missing = [name for name in names if name not in {*present, *LATER}]
    if missing:
        raise TableError(f"{where} lacks the columns {', '.join(missing)}{form}; make it again with this version")


def _sound(read: _Tables, where: Mapping[str, str], damage: list[str]) -> _Tables:
    """The rows that are whole, typed; ``trials`` has its configurations as mappings in a column ``config``."""
    known = set(read.trials["trial_id"].dropna())
    kept = _sound_trials(read.trials, where["trials"], damage)
    tables: dict[str, pd.DataFrame] = {}
    parts: Any = (("epochs", read.epochs, read.columns.all), ("steps", read.steps, STEP_COLUMNS))
    for table, rows, declared in parts:
        typed = _typed(rows, declared, where[table], damage)
        owned = typed["trial_id"].isin(kept["trial_id"])
        strays = typed.loc[~owned & ~typed["trial_id"].isin(known), "trial_id"]
        if len(strays):
            ids = _names(strays.unique())
            damage.append(f"{where[table]}: {counted(len(strays), 'row')} of no known trial ({ids}); left out")
        tables[table] = typed if owned.all() else typed[owned]
    return _Tables(kept, tables["epochs"], tables["steps"], read.columns)


def _in_order(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The rows sorted by ``keys``, none of which is missing; the rows as they are where that is so, as in an export."""
    codes, size = np.zeros(len(table), dtype="int64"), 1
    for key in reversed(keys):
        ranks, distinct = pd.factorize(table[key], sort=True)
        codes, size = codes + size * ranks.astype("int64"), size * len(distinct)
    if (codes[1:] < codes[:-1]).any():
        table = table.take(np.argsort(codes, kind="stable"))
    return table.reset_index(drop=True)


def _sound_trials(raw: pd.DataFrame, where: str, damage: list[str]) -> pd.DataFrame:
    trials = _typed(raw, TRIAL_COLUMNS, where, damage)
    config = raw.loc[trials.index, "config"]
    faults = {
        "not a name that a trial can have": ~trials["trial_id"].str.fullmatch(TRIAL_ID).astype("bool"),
        "the configuration is not JSON": config.isna(),
        "the status is unknown": ~trials["status"].isin(STATUSES),
        "stands there twice; the first counts, the other is": trials["trial_id"].duplicated(),
    }
    sound = pd.Series(True, index=trials.index)
    for fault, found in faults.items():
        ids = trials.loc[sound & found, "trial_id"]
        if len(ids):
            damage.append(f"{where}: {'trials' if len(ids) > 1 else 'trial'} {_names(ids)}: {fault}; left out")
        sound &= ~found
    return _with_config(trials[sound].reset_index(drop=True), list(config[sound]))


def _typed(table: pd.DataFrame, declared: Sequence[Column], where: str, damage: list[str]) -> pd.DataFrame:
    """The rows with values of the declared types, and none missing that is needed; empty text is missing."""
    typed, unsound = {}, {}
    for column in declared:
        given = table[column.name]
        typed[column.name] = values = _texts(given) if column.type == "str" else _numbers(given, column.type)
        wrong = values.isna()
        if column.name not in NEEDED:
            wrong &= given.notna() & (given != "")
            if wrong.any():
                wrong &= ~given.map(lambda value: str(value).lower() in NO_NUMBER)
        elif column.type == "int":
            wrong |= (values < 0).fillna(False)
        if wrong.any():
            unsound[column.name] = wrong
    if not unsound:
        return pd.DataFrame(typed)
    rows = pd.DataFrame(unsound).any(axis="columns")
    number, names = counted(int(rows.sum()), "row"), ", ".join(unsound)
    damage.append(f"{where}: {number} with something that cannot stand in its column ({names}); left out")
    return pd.DataFrame(typed)[~rows]


def _texts(given: pd.Series[Any]) -> pd.Series[Any]:
    """The values as text, missing where they are none."""
    if given.dtype == "object":
        given = given.where(given.map(lambda value: isinstance(value, str)))
    text = given.astype("string")
    return text.mask(text == "")


def _numbers(given: pd.Series[Any], type: str) -> pd.Series[Any]:
    """The values as numbers, missing where they are none."""
    try:
        return given.astype(DTYPES[type])
    except (TypeError, ValueError, OverflowError):
        numbers = pd.to_numeric(given, errors="coerce").astype("float64")
        if type == "int":
            numbers = numbers.where((numbers % 1 == 0) & (numbers.abs() < 2**53))
        return numbers.astype(DTYPES[type])


def _names(ids: Iterable[Any]) -> str:
    """A few trials by name, the others by number."""
    short = [text if len(text) <= 40 else f"{text[:40]}…" for text in map(str, ids)]
    return ", ".join(short[:NAMED]) + (f" and {len(short) - NAMED} more" if len(short) > NAMED else "")


def _with_config(trials: pd.DataFrame, config: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    keys = list(dict.fromkeys(key for row in config for key in row))
    columns = {key: _inferred([_text(row.get(key)) for row in config]) for key in keys}
    columns = {key: values for key, values in columns.items() if values.notna().any()}
    return pd.concat([trials, pd.DataFrame(columns, index=trials.index)], axis="columns")


def _text(value: Any) -> str | None:
    """A configuration value as text, the same from JSON, CSV and Parquet; None where it is missing or empty."""
    if isinstance(value, list | dict | np.ndarray):
        return json.dumps(value if not isinstance(value, np.ndarray) else value.tolist())
    if value is None or pd.isna(value) or value == "":
        return None
    if isinstance(value, bool | np.bool_):
        return "True" if value else "False"
    return str(value)


def _inferred(texts: Sequence[str | None]) -> pd.Series[Any]:
    """The texts as booleans, whole numbers, numbers or text: the first of these that all of them are."""
    given = [text for text in texts if text is not None]
    if all(text.lower() in ("true", "false") for text in given):
        return pd.Series([None if text is None else text.lower() == "true" for text in texts], dtype="boolean")
    numbers = [text for text in given if text.lower() not in NO_NUMBER]
    if numbers and all(re.fullmatch(r"[-+]?\d{1,18}(\.\d+)?([eE][-+]?\d+)?", text, re.ASCII) for text in numbers):
        known = [None if text is None or text.lower() in NO_NUMBER else text for text in texts]
        if all(re.fullmatch(r"[-+]?\d+", text, re.ASCII) for text in numbers):
            return pd.Series([None if text is None else int(text) for text in known], dtype="Int64")
        return pd.Series([None if text is None else float(text) for text in known], dtype="float64")
    return pd.Series(texts, dtype="string")
