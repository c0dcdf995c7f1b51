"""A study's tables as files: Parquet for programs, CSV for spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.database import TableError
from analysis.load import EXPERIMENT, MANIFEST, Study
from analysis.pairs import pair
from analysis.writing import replacing, write_text
from trainables import records
from trainables.records import DECLARATIONS, DECLARED_IN, Columns


def declarations(columns: Columns) -> pd.DataFrame:
    """The table ``columns``: what the columns of ``trials``, ``epochs`` and ``steps`` mean."""
    return pd.DataFrame(records.declarations(columns.all), columns=[declared.name for declared in DECLARATIONS])


def export(study: Study, folder: Path, format: Literal["parquet", "csv"]) -> list[Path]:
    """Write a study's tables, manifest and experiment to ``folder``; ``load`` reads them back unchanged.

    Beside them, for other programs, the table ``pairs`` of comparisons at their last epoch, and ``columns``, which says
    what every column means. ``docs/tables.md`` names every column of this program.

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
        tables = {"trials": study.trials, "epochs": study.epochs, "steps": study.steps, "pairs": pair(study).frame}
        tables[DECLARED_IN] = declarations(study.columns)
        for name, table in tables.items():
            if name == "steps" and table.empty:
                continue
            file = folder / f"{name}.{format}"
            with replacing(file) as partial:
                writers[format](table, partial)
            files.append(file)
        if study.manifest:
            files.append(write_text(folder / MANIFEST, json.dumps(study.manifest, indent=2) + "\n"))
        if study.experiment:
            files.append(write_text(folder / EXPERIMENT, study.experiment))
    except OSError as error:
        raise TableError(f"cannot write to {folder}: {error}; give a folder that can be written to") from error
    return files
