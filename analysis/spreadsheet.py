"""CSV files as this program, spreadsheets and statistics programs write them, read as tables of text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.database import TableError

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""Byte order marks, and the encodings that they stand for; without one, a file is UTF-8."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

COMMA = r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?"
POINT = r"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?"


class Sheet(NamedTuple):
    """What a CSV file holds.

    Attributes:
        table: its whole lines as text, decimal commas as points; empty cells are missing.
        form: how the file was understood, for messages.
        lost: lines that have more or fewer cells than the head.
    """

    table: pd.DataFrame
    form: str
    lost: int


def read(file: Path, key: str, texts: Collection[str]) -> Sheet:
    """Read a CSV file, separated by commas, semicolons or tabs, in UTF-8 or, with its mark, UTF-16.

    Numbers have a decimal point; where cells are not separated by commas, all of them may have a decimal comma.

    Args:
        file: the file.
        key: a column that it should have: what separates the cells is what separates this one.
        texts: columns that hold text, in which a comma stays one.

    Raises:
        TableError: a column stands twice, or numbers have decimal commas and points.
        OSError: it cannot be read.
        csv.Error: it is not CSV.
    """
    content = file.read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    text = content.decode(encoding, "replace")
    separator = _separator(re.split(r"[\r\n]", text, maxsplit=1)[0], key)
    if text.startswith("sep="):  # a line for Excel alone
        text = text.partition("\n")[2]
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(line)]
    heads, *rows = lines or [[]]
    while heads and not heads[-1] and not any(row[len(heads) - 1 :] != [""] for row in rows):  # a column of nothing
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    if len(set(heads)) < len(heads):
        raise TableError(f"{file} cannot be read: it has a column twice; export the study again")
    whole = [row for row in rows if len(row) == len(heads)]
    table = pd.DataFrame(whole, columns=heads, dtype="string")
    table = table.mask(table == "")
    if separator != ",":
        table = _pointed(table, [name for name in heads if name not in texts], file)
    return Sheet(table, f"read with {SEPARATORS[separator]} between columns", len(rows) - len(whole))


def _separator(head: str, key: str) -> str:
    """What separates the cells of a file whose first line is ``head``."""
    if head.startswith("sep=") and head[4:5] in SEPARATORS:
        return head[4]
    cells = {separator: next(csv.reader([head], delimiter=separator), []) for separator in SEPARATORS}
    fitting = [separator for separator in cells if key in cells[separator]]
    return max(fitting or cells, key=lambda separator: len(cells[separator]))


def _pointed(table: pd.DataFrame, columns: Collection[str], file: Path) -> pd.DataFrame:
    """The table with decimal points in place of decimal commas."""
    commas = {name: table[name].str.fullmatch(COMMA).fillna(False).astype("bool") for name in columns}
    found = [(name, table.loc[cells, name].iloc[0]) for name, cells in commas.items() if cells.any()]
    if not found:
        return table
    for name in columns:
        points = table.loc[table[name].str.fullmatch(POINT).fillna(False).astype("bool"), name]
        if len(points):
            (other, comma), point = found[0], points.iloc[0]
            raise TableError(
                f"{file} has numbers with a decimal comma ({other}: {comma}) and with a decimal point ({name}: "
                f"{point}); save it with one of them"
            )
    pointed = {
        name: table[name].mask(cells, table[name].str.replace(",", ".", regex=False)) for name, cells in commas.items()
    }
    return table.assign(**pointed)
