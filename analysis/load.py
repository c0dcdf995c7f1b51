"""A study's tables as data frames, from its live SQLite file or from an export; and the way back to files."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd

from trainables.records import COLUMNS, STEP_COLUMNS, TRIAL_COLUMNS, Column

DATABASE = "study.sqlite"
MANIFEST = "manifest.json"
EXPERIMENT = "experiment.yaml"
DTYPES: Mapping[str, Any] = {"int": "Int64", "float": "float64", "str": "string"}


class TableError(ValueError):
    """A table cannot be read or does not hold what is asked of it; the message names the file, column and remedy."""


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
    """

    name: str
    trials: pd.DataFrame
    epochs: pd.DataFrame
    manifest: Mapping[str, Any]
    experiment: str
    path: Path
    steps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[c.name for c in STEP_COLUMNS]))


def load(path: Path) -> Study:
    """Read the study directory or export folder ``path``; nothing is written, and the study may still be running.

    Raises:
        TableError: there is no study, or a file cannot be read, or lacks a table or column.
    """
    path = Path(path)
    if not path.is_dir():
        raise TableError(f"{path} is not a folder; give a study directory or an export folder")
    if (path / DATABASE).is_file():
        trials, epochs, steps = _read_database(path / DATABASE)
    else:
        trials, epochs, steps = _read_export(path)
    trials = trials.sort_values(["number", "trial_id"], ignore_index=True)
    epochs = epochs.sort_values(["trial_id", "epoch", "arm"], ignore_index=True, kind="stable")
    manifest = _read_manifest(path / MANIFEST)
    name = manifest.get("name")
    return Study(
        name=name if isinstance(name, str) and name else path.resolve().name,
        trials=trials,
        epochs=epochs,
        manifest=manifest,
        experiment=_read_text(path / EXPERIMENT),
        path=path,
        steps=steps.sort_values(["trial_id", "epoch", "arm", "step"], ignore_index=True, kind="stable"),
    )


def export(study: Study, folder: Path, format: Literal["parquet", "csv"]) -> list[Path]:
    """Write a study's tables, manifest and experiment to ``folder``; :func:`load` reads them back unchanged.

    Returns:
        The files written.

    Raises:
        TableError: ``format`` is unknown, or ``folder`` cannot be written.
    """
    writers: dict[str, Callable[[pd.DataFrame, Path], object]] = {
        "parquet": lambda table, file: table.to_parquet(file, index=False),
        "csv": lambda table, file: table.to_csv(file, index=False),
    }
    if format not in writers:
        raise TableError(f"format {format!r} is unknown; use {' or '.join(writers)}")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        tables = {"trials": study.trials, "epochs": study.epochs, "steps": study.steps}
        for name, table in tables.items():
            if name == "steps" and table.empty:
                continue
            file = folder / f"{name}.{format}"
            partial = file.with_suffix(".partial")
            writers[format](table, partial)
            files.append(partial.replace(file))
        if study.manifest:
            files.append(write_text(folder / MANIFEST, json.dumps(study.manifest, indent=2) + "\n"))
        if study.experiment:
            files.append(write_text(folder / EXPERIMENT, study.experiment))
    except OSError as error:
        raise TableError(f"cannot write to {folder}: {error}; give a folder that can be written to") from error
    return files


def write_text(file: Path, text: str) -> Path:
    """Write ``text`` to ``file`` whole or not at all; readers never see a half-written file."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="")
    return partial.replace(file)


def config_keys(trials: pd.DataFrame) -> list[str]:
    """The columns of ``Study.trials`` that are configuration keys."""
    own = {column.name for column in TRIAL_COLUMNS}
    return [name for name in trials.columns if name not in own]


def _read_database(file: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    # One transaction, so that both tables are of the same moment. A finished study may lie on a read-only medium, where
    # SQLite can make no lock file and must be told that nobody writes.
    alone = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
    uri = f"file:{quote(str(file.resolve()))}?mode=ro{'&immutable=1' if alone else ''}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            trials = _select(connection, file, "trials", [c.name for c in TRIAL_COLUMNS] + ["config"])
            epochs = _select(connection, file, "epochs", [c.name for c in COLUMNS])
            traced = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchone()
            names = [c.name for c in STEP_COLUMNS]
            steps = _select(connection, file, "steps", names) if traced else pd.DataFrame(columns=names)
    except sqlite3.Error as error:
        raise TableError(f"{file} cannot be read as an SQLite file: {error}; restore it or run the study again") from (
            error
        )
    config = [_parse_config(file, *row) for row in zip(trials["trial_id"], trials["config"], strict=True)]
    trials = _typed_trials(trials.drop(columns="config"), config, file)
    return trials, _typed(epochs, COLUMNS, file), _typed(steps, STEP_COLUMNS, file)


def _select(connection: sqlite3.Connection, file: Path, table: str, columns: Sequence[str]) -> pd.DataFrame:
    present = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if not present:
        raise TableError(f"{file} has no table {table!r}; is it the {DATABASE} of a study?")
    _require(columns, present, f"table {table!r} of {file}")
    names = ", ".join(f'"{name}"' for name in columns)
    rows = connection.execute(f"SELECT {names} FROM {table}").fetchall()
    return pd.DataFrame(rows, columns=list(columns), dtype="object")


def _parse_config(file: Path, trial_id: str, text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (TypeError, ValueError) as error:
        raise TableError(f"{file}: the config of trial {trial_id} is not JSON: {error}; repair or remove it") from error
    if not isinstance(config, dict):
        raise TableError(f"{file}: the config of trial {trial_id} is not a JSON object; repair or remove it")
    return config


def _read_export(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    for suffix in ("parquet", "csv"):
        files = [folder / f"{name}.{suffix}" for name in ("trials", "epochs")]
        if not any(file.is_file() for file in files):
            continue
        trials, epochs = (_read_table(file) for file in files)
        own = [column.name for column in TRIAL_COLUMNS]
        _require(own, trials.columns, str(files[0]))
        _require([column.name for column in COLUMNS], epochs.columns, str(files[1]))
        config = trials.drop(columns=own)
        rows = [dict(zip(config.columns, row, strict=True)) for row in config.itertuples(index=False, name=None)]
        names = [column.name for column in STEP_COLUMNS]
        file = folder / f"steps.{suffix}"
        steps = _read_table(file) if file.is_file() else pd.DataFrame(columns=names)
        _require(names, steps.columns, str(file))
        trials = _typed_trials(trials[own], rows, files[0])
        return trials, _typed(epochs, COLUMNS, files[1]), _typed(steps, STEP_COLUMNS, file)
    raise TableError(
        f"{folder} holds no study: neither {DATABASE}, nor trials.parquet and epochs.parquet, nor trials.csv and "
        "epochs.csv; give a study directory or an export folder"
    )


def _read_table(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise TableError(f"{file} is missing beside the other table; export the study again")
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, dtype="string", keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pyarrow's and pandas' own errors are among these
        raise TableError(f"{file} cannot be read: {error}; export the study again") from error


def _read_manifest(file: Path) -> dict[str, Any]:
    text = _read_text(file)
    if not text:
        return {}
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise TableError(f"{file} is not JSON: {error}; repair or remove it") from error
    if not isinstance(manifest, dict):
        raise TableError(f"{file} is not a JSON object; repair or remove it")
    return manifest


def _read_text(file: Path) -> str:
    if not file.exists():
        return ""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        raise TableError(f"{file} cannot be read: {error}; repair or remove it") from error


def _require(columns: Iterable[str], present: Iterable[str], where: str) -> None:
    missing = [name for name in columns if name not in set(present)]
    if missing:
        raise TableError(f"{where} lacks the columns {', '.join(missing)}; make it again with this version")


def _typed(table: pd.DataFrame, columns: Sequence[Column], file: Path) -> pd.DataFrame:
    """The declared columns in their declared types; empty text is missing."""
    typed = {}
    for column in columns:
        values = table[column.name]
        try:
            if column.type == "str":
                text = values.astype("string")
                typed[column.name] = text.mask(text == "")
            else:
                typed[column.name] = values.astype(DTYPES[column.type])
        except (TypeError, ValueError) as error:
            raise TableError(
                f"{file}: column {column.name!r} holds something that is not of type {column.type}: {error}; repair it"
            ) from error
    return pd.DataFrame(typed)


def _typed_trials(trials: pd.DataFrame, config: Sequence[Mapping[str, Any]], file: Path) -> pd.DataFrame:
    typed = _typed(trials, TRIAL_COLUMNS, file)
    keys = list(dict.fromkeys(key for row in config for key in row))
    clash = [key for key in keys if key in typed]
    if clash:
        raise TableError(f"{file}: {', '.join(clash)} is both a configuration key and a column; rename the key")
    columns = {key: _inferred([_text(row.get(key)) for row in config]) for key in keys}
    columns = {key: values for key, values in columns.items() if values.notna().any()}
    return pd.concat([typed, pd.DataFrame(columns, index=typed.index)], axis="columns")


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
    if all(text in ("True", "False") for text in given):
        return pd.Series([None if text is None else text == "True" for text in texts], dtype="boolean")
    if all(re.fullmatch(r"-?\d{1,18}", text, re.ASCII) for text in given):
        return pd.Series([None if text is None else int(text) for text in texts], dtype="Int64")
    if all(re.fullmatch(r"-?\d{1,18}(\.\d+)?(e[-+]?\d+)?", text, re.ASCII) for text in given):
        return pd.Series([None if text is None else float(text) for text in texts], dtype="float64")
    return pd.Series(texts, dtype="string")
